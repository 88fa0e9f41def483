// Package python carries the Python SDK inside the worker's binary, so that a task file can import runqy on a machine
// where nothing was installed.
package python

import (
	"embed"
	"io/fs"
)

// The pattern names files, not the directory: a directory would leave out those that begin with an underscore.
//
//go:embed runqy/*.py runqy/py.typed
var sdk embed.FS

// SDK returns the SDK's files: one directory, runqy, which is the Python package. internal/sdk writes them to a
// directory that belongs on PYTHONPATH.
func SDK() fs.FS { return sdk }
