package config

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
)

// Options says what Load reads.
type Options struct {
	// File is the YAML file; empty means the one that RUNQY_CONFIG names, or none.
	File string
	// Env is the environment as os.Environ returns it.
	Env []string
	// Flags holds the values of flags by dotted key; only flags that were given.
	Flags map[string]string
	// Elsewhere says that this process does not start the worker, which may be on another machine: the files and the
	// directory that the configuration names need not exist on this one, and are not read.
	Elsewhere bool
	// FlagNames are how errors call those flags, by the same keys ("--redis").
	FlagNames map[string]string
}

// Load builds the configuration. The error is an *Error with every fault; then the Config is nil. The warnings are for
// the user either way.
func Load(o Options) (*Config, []string, error) {
	l := newLoader(o.Env)
	file := o.File
	if file == "" {
		file, _ = l.lookup("RUNQY_CONFIG")
	}
	l.file = file
	if file != "" {
		if data, err := readLimited(file); err != nil {
			l.fault(Origin{Name: file}, "", "", fmt.Sprintf("cannot be read: %v", err))
		} else {
			l.readFile(file, data)
		}
	}
	return l.finish(o)
}

func readLimited(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("it is a directory")
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	return os.ReadFile(file)
}

// loader gathers inputs layer by layer, then turns them into a Config.
type loader struct {
	fields   []field
	byKey    map[string]field
	env      map[string]string
	file     string             // the file's name as given, empty without one
	inputs   map[string][]input // by key, the weakest layer first; each must be right
	bad      map[string]bool    // keys with a fault
	faults   []Fault
	warnings []string
}

func newLoader(env []string) *loader {
	l := &loader{
		fields: fields(), byKey: make(map[string]field), env: make(map[string]string),
		inputs: make(map[string][]input), bad: make(map[string]bool),
	}
	for _, f := range l.fields {
		l.byKey[f.key] = f
	}
	for _, entry := range env {
		if name, value, ok := strings.Cut(entry, "="); ok {
			l.env[name] = value
		}
	}
	return l
}

func (l *loader) lookup(name string) (string, bool) {
	value, ok := l.env[name]
	return value, ok
}

// add puts one more layer on a key.
func (l *loader) add(key string, in input) { l.inputs[key] = append(l.inputs[key], in) }

// top is the strongest layer of a key so far.
func (l *loader) top(key string) (input, bool) {
	layers := l.inputs[key]
	if len(layers) == 0 {
		return input{}, false
	}
	return layers[len(layers)-1], true
}

func (l *loader) fault(origin Origin, key, value, text string) {
	l.faults = append(l.faults, Fault{Origin: origin, Key: key, Value: value, Text: text})
}

func (l *loader) finish(o Options) (*Config, []string, error) {
	l.readEnvironment()
	for _, key := range slices.Sorted(maps.Keys(o.Flags)) {
		name := cmp.Or(o.FlagNames[key], "flag for "+key)
		if _, ok := l.byKey[key]; !ok {
			l.fault(Origin{Name: name}, key, "", "is not a key")
			continue
		}
		l.add(key, input{origin: Origin{Name: name}, text: o.Flags[key]})
	}

	c := Default()
	c.origins = make(map[string]Origin)
	for _, f := range l.fields {
		for _, in := range l.inputs[f.key] {
			l.store(c, f, in)
		}
	}
	if !o.Elsewhere {
		l.checkFiles(c)
	}
	for _, r := range relations() {
		if l.bad[r.key] || l.bad[r.other] {
			continue
		}
		if text := r.check(c); text != "" {
			origin, value := c.origins[r.key], show(l.byKey[r.key], c)
			if origin.Name == "" { // the default does not fit what was configured
				origin = c.origins[r.other]
			}
			l.fault(origin, r.key, fmt.Sprint(value), text)
		}
	}
	if len(l.faults) > 0 {
		rank := func(f Fault) int { // the file's by line, then the other layers in turn
			if f.Origin.Name == l.file {
				return f.Origin.Line
			}
			return math.MaxInt
		}
		slices.SortStableFunc(l.faults, func(a, b Fault) int { return cmp.Compare(rank(a), rank(b)) })
		return nil, l.warnings, &Error{Faults: l.faults}
	}
	if c.Worker.ID == "" {
		c.Worker.ID = randomID()
	} else {
		c.Worker.IDSet = c.origins["worker.id"].Name != ""
	}
	c.runtimeDir = runtimeDir(l.lookup)
	return c, l.warnings, nil
}

// store decodes one input into its place and checks it.
func (l *loader) store(c *Config, f field, in input) {
	place := f.place(c)
	if _, text := place.(*string); !text && in.node == nil && strings.TrimSpace(in.text) == "" {
		return // a variable that was left blank
	}
	saved := reflect.ValueOf(place).Elem().Interface()
	problems := in.decode(place)
	if len(problems) == 0 && f.limit.check != nil && !(f.key == "worker.id" && c.Worker.ID == "") {
		if text := f.limit.check(c, place); text != "" {
			_, scalar := in.scalar()
			problems = append(problems, problem{text: text, whole: !scalar})
		}
	}
	if len(problems) == 0 {
		c.origins[f.key] = in.origin
		return
	}
	reflect.ValueOf(place).Elem().Set(reflect.ValueOf(saved))
	l.bad[f.key] = true
	for _, p := range problems {
		origin := in.origin
		if p.line > 0 {
			origin.Line = p.line
		}
		value := ""
		if !p.whole {
			text, _ := in.scalar()
			value = redact(f, text)
			if value == "" {
				value, p.text = "", `"" `+p.text
			}
		}
		l.fault(origin, f.key, value, p.text)
	}
}
