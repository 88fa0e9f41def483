package queue

import (
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// What one call of the cycle script carries at most.
const (
	mostItems = 256
	mostBytes = 1 << 20
)

// fit tells how many of the items go into one call: at least one, if there is any.
func fit(items []item) int {
	n, _ := fitting(items)
	return n
}

// fitViews tells how many of the views go into one call beside the items, which fit.
func fitViews(items []item, views []viewWrite) int {
	_, bytes := fitting(items)
	for i := range views {
		bytes += len(views[i].id) + len(views[i].owner) + textsSize(views[i].fields)
		if i == mostItems || bytes > mostBytes && (i > 0 || len(items) > 0) {
			return i
		}
	}
	return len(views)
}

// fitting returns how many of the items go into one call, and their size.
func fitting(items []item) (n, bytes int) {
	for i := range items {
		size := items[i].size()
		if i == mostItems || i > 0 && bytes+size > mostBytes {
			return i, bytes
		}
		bytes += size
	}
	return len(items), bytes
}

// argumentSize is about what an argument costs beside its content.
const argumentSize = 8

func (it *item) size() int {
	const fields = 9
	return fields*argumentSize + len(it.id) + len(it.owner) + len(it.uniqueKey) + len(it.message) + len(it.result) +
		textsSize(it.view)
}

func textsSize(list []string) int {
	n := len(list) * argumentSize
	for _, s := range list {
		n += len(s)
	}
	return n
}

// arguments collects those of one call. The texts lie in one block, and the list points to them, so that an argument
// costs no allocation of its own.
type arguments struct {
	block     []string
	list      []any
	checksums *dumpChecksums
	dumps     []byte // of the views, one after the other
}

func newArguments(r cycleRequest, checksums *dumpChecksums) *arguments {
	n, dumps := 9, 0
	for i := range r.items {
		n += 9
		if r.items[i].viewAnew && r.items[i].end == endDone { // nearly always the short form
			dumps += dumpSize(r.items[i].view)
		} else {
			n += len(r.items[i].view)
		}
		if r.items[i].end != endDone {
			n += 8 // the counts
		}
	}
	for i := range r.views {
		n += 3 + len(r.views[i].fields)
	}
	return &arguments{
		block: make([]string, 0, n), list: make([]any, 0, n), checksums: checksums, dumps: make([]byte, 0, dumps),
	}
}

func (a *arguments) text(s string) {
	a.block = append(a.block, s)
	a.list = append(a.list, &a.block[len(a.block)-1])
}

func (a *arguments) texts(list []string) {
	for _, s := range list {
		a.text(s)
	}
}

func (a *arguments) number(n int) { a.text(strconv.Itoa(n)) }

func (a *arguments) bytes(b []byte) {
	if len(b) == 0 {
		a.text("")
		return
	}
	a.list = append(a.list, b)
}

// simple writes an item in the short form that the script has for tasks that succeed and leave nothing but their result
// and a new view. It reports whether the item is of that kind.
func (a *arguments) simple(it *item, prefix string, views bool) bool {
	stamp, ours := strings.CutPrefix(it.owner, prefix)
	if it.end != endDone || it.retention > 0 || it.uniqueKey != "" || !ours {
		return false
	}
	withView := views && len(it.view) > 0
	if withView && !it.viewAnew {
		return false
	}
	if withView {
		a.text("V")
	} else {
		a.text("S")
	}
	a.text(it.id)
	a.text(stamp)
	if len(it.result) == 0 {
		a.text("null")
	} else {
		a.bytes(it.result)
	}
	if withView {
		begin := len(a.dumps)
		a.dumps = a.checksums.appendHash(a.dumps, it.view)
		dump := a.dumps[begin:]
		a.text(unsafe.String(unsafe.SliceData(dump), len(dump))) // nothing changes it any more
	}
	return true
}

// item writes an item as the cycle script reads it.
func (a *arguments) item(it *item) {
	kind, seconds := it.kind()
	a.text(kind)
	a.text(it.id)
	a.text(it.owner)
	a.number(seconds)
	a.text(it.uniqueKey)
	var message, result []byte
	if kind == "C" || kind == "R" || kind == "A" {
		message = it.message
	}
	if kind == "D" || kind == "C" {
		if result = it.result; len(result) == 0 {
			result = []byte("null")
		}
	}
	a.bytes(message)
	a.bytes(result)
	counts := []struct {
		field string
		value int
	}{
		{"crashes", it.crashes}, {"suspicions", it.suspicions}, {"recoveries", it.recoveries}, {"postponed", it.postponed},
	}
	n := 0
	for _, c := range counts {
		if c.value >= 0 && kind != "D" {
			n += 2
		}
	}
	a.number(n)
	a.number(viewCount(it.view, it.viewAnew))
	for _, c := range counts {
		if c.value >= 0 && kind != "D" {
			a.text(c.field)
			a.number(c.value)
		}
	}
	a.texts(it.view)
}

// viewCount is how the script is told the number of a view's fields, and that it begins anew.
func viewCount(fields []string, anew bool) int {
	if anew {
		return -len(fields)
	}
	return len(fields)
}

// kind is the script's letter for what becomes of the task, with the seconds that belong to it.
func (it *item) kind() (string, int) {
	switch it.end {
	case endRetry:
		return "R", wholeSeconds(it.delay)
	case endArchive:
		return "A", 0
	case endReturn:
		return "H", 0
	case endReturnLast:
		return "L", 0
	case endPostpone:
		return "P", wholeSeconds(it.delay)
	case endDone:
		if it.retention > 0 {
			return "C", wholeSeconds(it.retention)
		}
		return "D", 0
	case endNothing:
	}
	return "X", 0
}

// wholeSeconds rounds up to what asynq keeps.
func wholeSeconds(d time.Duration) int {
	s := d / time.Second
	if d%time.Second > 0 {
		s++
	}
	return max(0, int(s))
}
