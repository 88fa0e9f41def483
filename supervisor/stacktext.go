package supervisor

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
)

// stacks are what a process says of its threads and asyncio tasks, in the form of Python's faulthandler.
type stacks []*section

// section is the stack of one thread or asyncio task.
type section struct {
	head   string
	task   string // the id of the task that it runs; empty: none that is known
	thread bool   // not an asyncio task
	main   bool   // the main thread
	lines  []string
	frames []frame // the innermost first
}

// frame is one call.
type frame struct {
	file     string
	line     int // 0: not known
	function string
}

// parseStacks reads the text of faulthandler, or of the SDK's answer. It never fails: what it does not understand stays in
// the text.
func parseStacks(text string) stacks {
	var all stacks
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "":
		case strings.HasPrefix(line, "  ") && len(all) > 0:
			s := all[len(all)-1]
			s.lines = append(s.lines, line)
			if f, ok := parseFrame(line); ok {
				s.frames = append(s.frames, f)
			}
		default:
			all = append(all, parseHead(line))
		}
	}
	return all
}

func parseHead(line string) *section {
	s := &section{head: line, thread: !strings.HasPrefix(line, "asyncio task "), main: strings.HasPrefix(line, "thread MainThread")}
	if _, rest, ok := strings.Cut(line, ` task "`); ok {
		// Whatever follows the string is passed over.
		if err := json.NewDecoder(strings.NewReader(`"` + rest)).Decode(&s.task); err != nil {
			s.task = ""
		}
	}
	return s
}

// parseFrame reads a line such as `  File "main.py", line 12 in fetch`.
func parseFrame(line string) (f frame, ok bool) {
	rest, ok := strings.CutPrefix(line, `  File "`)
	if !ok {
		return f, false
	}
	// A file's name may hold anything, a function's no quote.
	i := strings.LastIndex(rest, `", line `)
	if i < 0 {
		return f, false
	}
	number, function, ok := strings.Cut(rest[i+len(`", line `):], " in ")
	if !ok {
		return f, false
	}
	f = frame{file: rest[:i], function: function}
	f.line, _ = strconv.Atoi(number) // ??? when it is not known
	return f, true
}

// nameMainThread says which task the main thread runs, where the process does not. faulthandler lists the main thread
// last, unless there are too many.
func (all stacks) nameMainThread(task string) {
	if len(all) == 0 {
		return
	}
	s := all[len(all)-1]
	if len(s.frames) == 0 || slices.ContainsFunc(all, func(s *section) bool { return s.main }) {
		return
	}
	s.main = true
	if task != "" && s.task == "" {
		s.task = task
	}
}

// where is the innermost line of the handlers' own code, in the stack that tells most; empty: none has any.
func (all stacks) where(task string) string {
	for _, s := range all.sorted(task) {
		if i := s.culprit(); i >= 0 {
			text := s.frames[i].String()
			if i > 0 {
				text += ", in " + s.frames[0].String()
			}
			return text
		}
	}
	return ""
}

// text has every stack, those that tell most first.
func (all stacks) text(task string) string {
	var b strings.Builder
	for _, s := range all.sorted(task) {
		b.WriteString(s.head + "\n")
		for _, line := range s.lines {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// sorted puts the stack of the task first, then the others that run a handler, then what is left.
func (all stacks) sorted(task string) stacks {
	rank := func(s *section) int {
		switch {
		case s.culprit() < 0:
			return 5
		case task != "" && s.task == task && s.thread:
			return 0 // it runs at this moment
		case task != "" && s.task == task:
			return 1
		case s.task != "" && s.thread:
			return 2
		case s.main || s.task != "":
			return 3
		}
		return 4
	}
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b *section) int { return rank(a) - rank(b) })
	return sorted
}

// culprit is the index of the frame to look at: the innermost of the task file's, else of an installed package's. -1: there
// is none. What called run is not meant: it is outside of the SDK's frames.
func (s *section) culprit() int {
	inside := s.frames
	if i := lastIndexFunc(s.frames, frame.ofSDK); i >= 0 {
		inside = s.frames[:i]
	}
	own := func(f frame) bool { return !f.ofSDK() && !f.ofStandardLibrary() }
	if i := slices.IndexFunc(inside, func(f frame) bool { return own(f) && !f.installed() }); i >= 0 {
		return i
	}
	return slices.IndexFunc(inside, own)
}

func lastIndexFunc[T any](list []T, ok func(T) bool) int {
	for i, v := range slices.Backward(list) {
		if ok(v) {
			return i
		}
	}
	return -1
}

func (f frame) String() string {
	number := "?"
	if f.line > 0 {
		number = strconv.Itoa(f.line)
	}
	return f.file + ":" + number + " in " + f.function
}

// ofSDK reports whether the frame is in a module of the SDK, all of which begin with an underscore.
func (f frame) ofSDK() bool {
	dir, name := path.Split(f.file)
	return path.Base(dir) == "runqy" && strings.HasPrefix(name, "_")
}

// ofStandardLibrary reports whether the frame is in a module that comes with Python: below lib/python3.11, without what
// is installed there, or inside the interpreter.
func (f frame) ofStandardLibrary() bool {
	if strings.HasPrefix(f.file, "<frozen ") {
		return true
	}
	_, rest, ok := strings.Cut(f.file, "/lib/python3")
	if !ok {
		_, rest, ok = strings.Cut(f.file, "/lib/pypy3")
	}
	return ok && strings.Contains(rest, "/") && !f.installed()
}

// installed reports whether the frame is in an installed package.
func (f frame) installed() bool {
	return strings.Contains(f.file, "/site-packages/") || strings.Contains(f.file, "/dist-packages/")
}

// cutLines is text up to limit bytes, in whole lines.
func cutLines(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	end := strings.LastIndexByte(text[:limit], '\n')
	return text[:end+1] + "(cut off)\n"
}
