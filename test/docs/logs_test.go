package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// logCall is one place that writes to the log.
type logCall struct {
	at      string // file:line
	level   string // debug, info, warn, error; empty where it is computed
	message string // empty where it is computed
}

// logCalls finds every call of a slog.Logger in the program, by the name of the method and of what it is called on.
func logCalls(t *testing.T) []logCall {
	t.Helper()
	var calls []logCall
	files := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "test" || name == "bench" || name == "tools" || name == "redistest") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if found, ok := readLogCall(call); ok {
					found.at = strings.TrimPrefix(files.Position(call.Pos()).String(), root+"/")
					calls = append(calls, found)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatalf("read the program: %v", err)
	}
	if len(calls) < 20 {
		t.Fatalf("found %d places that write to the log, want more: the search does not find them", len(calls))
	}
	return calls
}

var loggerName = regexp.MustCompile(`(?i)(^|\.)(log|logger)$`)

func readLogCall(call *ast.CallExpr) (logCall, bool) {
	method, ok := call.Fun.(*ast.SelectorExpr)
	// supervisor/receive.go logs through child.warn.
	if ok && method.Sel.Name == "warn" && len(call.Args) > 0 {
		if text, ok := call.Args[0].(*ast.BasicLit); ok && text.Kind == token.STRING {
			message, _ := strconv.Unquote(text.Value)
			return logCall{level: "warn", message: message}, true
		}
	}
	if !ok || !loggerName.MatchString(source(method.X)) {
		return logCall{}, false
	}
	var found logCall
	message := 0
	switch name := method.Sel.Name; name {
	case "Debug", "Info", "Warn", "Error":
		found.level = strings.ToLower(name)
	case "DebugContext", "InfoContext", "WarnContext", "ErrorContext":
		found.level = strings.ToLower(strings.TrimSuffix(name, "Context"))
		message = 1
	case "Log", "LogAttrs":
		message = 2
		if len(call.Args) > 1 {
			if level, ok := call.Args[1].(*ast.SelectorExpr); ok && strings.HasPrefix(level.Sel.Name, "Level") {
				found.level = strings.ToLower(strings.TrimPrefix(level.Sel.Name, "Level"))
			}
		}
	default:
		return logCall{}, false
	}
	if len(call.Args) <= message {
		return logCall{}, false
	}
	if text, ok := call.Args[message].(*ast.BasicLit); ok && text.Kind == token.STRING {
		found.message, _ = strconv.Unquote(text.Value)
	}
	return found, true
}

// source writes the expression that a method is called on, as far as it is made of names.
func source(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return source(e.X) + "." + e.Sel.Name
	case *ast.CallExpr:
		if method, ok := e.Fun.(*ast.SelectorExpr); ok && (method.Sel.Name == "With" || method.Sel.Name == "WithGroup") {
			return source(method.X)
		}
	}
	return ""
}

// A message is what an operator searches for: short, constant, and the same words each time.
func TestLogMessagesCanBeSearchedFor(t *testing.T) {
	form := regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9 ./_-]*$`)
	for _, call := range logCalls(t) {
		switch m := call.message; {
		case m == "": // passed on: a line of the Python process, or of asynq
		case !form.MatchString(m) || len(m) > 60 || m != strings.TrimSpace(m):
			t.Errorf("%s logs %q, want a few words without punctuation; what varies is an attribute", call.at, m)
		}
	}
}

// The table in docs/operations.md has every message at warn and error, and none that the program does not write.
func TestOperationsListsTheLogMessages(t *testing.T) {
	written := make(map[string]map[string]bool) // message -> levels
	for _, call := range logCalls(t) {
		if call.message == "" {
			continue
		}
		if written[call.message] == nil {
			written[call.message] = make(map[string]bool)
		}
		written[call.message][call.level] = true
	}
	listed := make(map[string]bool)
	for _, row := range rows(section(t, read(t, "docs/operations.md"), "Log messages")) {
		if len(row) < 3 {
			t.Fatalf("the table of log messages has the row %q, want message, level and meaning", row)
		}
		message, level := strings.Trim(row[0], "`"), row[1]
		listed[message] = true
		for _, l := range strings.Split(level, ", ") {
			if levels := written[message]; !levels[l] && !levels[""] {
				t.Errorf("docs/operations.md lists %q at %s, which the program does not write", message, l)
			}
		}
	}
	for message, levels := range written {
		if (levels["warn"] || levels["error"]) && !listed[message] {
			t.Errorf("docs/operations.md does not list the message %q", message)
		}
	}
}
