package queue

import (
	"container/heap"
	"time"
)

// deadlines holds the attempts that have begun and have a deadline, the next one first.
type deadlines []*attempt

// Len implements heap.Interface.
func (d deadlines) Len() int { return len(d) }

// Less implements heap.Interface.
func (d deadlines) Less(i, j int) bool { return d[i].deadline.Before(d[j].deadline) }

// Swap implements heap.Interface.
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].heapIndex, d[j].heapIndex = i, j
}

// Push implements heap.Interface.
func (d *deadlines) Push(x any) {
	a := x.(*attempt)
	a.heapIndex = len(*d)
	*d = append(*d, a)
}

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	a := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	a.heapIndex = -1
	return a
}

func (d *deadlines) add(a *attempt) { heap.Push(d, a) }

func (d *deadlines) remove(a *attempt) {
	if a.heapIndex >= 0 {
		heap.Remove(d, a.heapIndex)
	}
}

// due removes and returns an attempt whose deadline has come; nil: there is none.
func (d *deadlines) due(now time.Time) *attempt {
	if len(*d) == 0 || now.Before((*d)[0].deadline) {
		return nil
	}
	return heap.Pop(d).(*attempt)
}

// next is when the next deadline comes; zero: never.
func (d deadlines) next() time.Time {
	if len(d) == 0 {
		return time.Time{}
	}
	return d[0].deadline
}
