package main

import "fmt"

// judged is what is to be said of one surface in one case.
type judged struct {
	FalseGreen bool    `json:"false_green,omitempty"`
	FalseRed   bool    `json:"false_red,omitempty"`
	RedAfter   float64 `json:"red_after"` // seconds from the begin of the fault until it was no longer green; -1: it was green at the end
	Back       float64 `json:"back"`      // seconds from the end of the fault until it was green for good; -1: it did not become so, or there is no end
	Why        string  `json:"why,omitempty"`
}

// times are those of a case, in seconds since the injection.
type times struct {
	begin float64 // of the fault
	end   float64 // when it was lifted, or when the watch ended
	slack float64 // what limits are multiplied by
	back  float64 // when a task was done after the end of the fault; negative: none was, or the fault was not lifted
}

// judge decides about one surface. can says whether tasks were done while the fault lasted.
func (f *fault) judge(spans []span, can bool, t times) judged {
	j := judged{RedAfter: -1, Back: -1}
	for _, s := range spans { // the first answer after the last green one
		switch {
		case s.From >= t.end || s.To < t.begin:
		case s.Colour == green:
			j.RedAfter = -1
		case j.RedAfter < 0:
			j.RedAfter = max(0, s.From-t.begin)
		}
	}
	if can {
		f.judgeAble(&j, spans, t)
	} else {
		judgeUnable(&j, spans, t)
	}
	if f.lift != nil && t.back >= 0 {
		judgeBack(&j, spans, t)
	}
	return j
}

func judgeUnable(j *judged, spans []span, t times) {
	for _, s := range spans {
		if at := min(s.To, t.end) - t.begin; s.Colour == green && s.From < t.end && at > t.slack*greenLimit.Seconds() {
			j.FalseGreen = true
			j.Why = fmt.Sprintf("green %.1f s after the fault began", at)
		}
	}
}

func (f *fault) judgeAble(j *judged, spans []span, t times) {
	for _, s := range spans {
		if s.Colour == green || s.From >= t.end || s.To < t.begin+t.slack*f.settle.Seconds() {
			continue
		}
		if (f.blinks || s.Colour == neither) && s.To-s.From <= t.slack*greenLimit.Seconds() {
			continue
		}
		j.FalseRed = true
		j.Why = fmt.Sprintf("%s from %.1f to %.1f s: %s", s.Colour, s.From, s.To, s.Detail)
		return
	}
}

// judgeBack looks at the time after the fault: the last answer that was not green.
func judgeBack(j *judged, spans []span, t times) {
	j.Back = 0
	for _, s := range spans {
		if s.Colour != green && s.To >= t.end {
			j.Back = s.To - t.end
		}
	}
	if j.Back > t.slack*backLimit.Seconds() {
		j.FalseRed = true
		j.Why = fmt.Sprintf("not green %.1f s after the fault was over", j.Back)
	}
}
