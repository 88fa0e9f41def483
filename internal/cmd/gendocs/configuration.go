package main

import (
	"fmt"
	"slices"
	"strings"
	"text/template"

	"github.com/runqy/runqy-worker/internal/config"
)

func configurationFunctions(string) (template.FuncMap, func() error, error) {
	all := bySection(config.Keys())
	return template.FuncMap{"keys": all.table}, all.complete, nil
}

// sections are the keys of the configuration by section; a table takes those that it shows.
type sections map[string][]config.Key

func bySection(keys []config.Key) sections {
	all := make(sections)
	for _, k := range keys {
		all[k.Section()] = append(all[k.Section()], k)
	}
	return all
}

// table shows the keys of a section and takes them out of all.
func (all sections) table(section string) (string, error) {
	keys, ok := all[section]
	if !ok {
		return "", fmt.Errorf("there is no section %s, or another table has shown it already", section)
	}
	delete(all, section)
	var b strings.Builder
	b.WriteString("| key, variables | type | default | accepted | meaning |\n|---|---|---|---|---|")
	for _, k := range keys {
		names := []string{"**`" + k.Name + "`**"}
		for _, v := range k.Variables {
			names = append(names, "`"+v+"`")
		}
		fmt.Fprintf(&b, "\n| %s | %s | %s | %s | %s |", strings.Join(names, "<br>"), k.Type, k.Default, k.Allowed, k.Meaning)
	}
	return b.String(), nil
}

// complete returns an error that names the sections which no table has shown.
func (all sections) complete() error {
	if len(all) == 0 {
		return nil
	}
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return fmt.Errorf("no table of configuration.md.tmpl shows the sections %s", strings.Join(names, ", "))
}
