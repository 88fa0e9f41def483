package status

import (
	"slices"
	"strconv"
	"time"
)

// ReportHeader is the HTTP header that tells which report an answer was made from.
const ReportHeader = "Runqy-Report"

// Report is a worker's health as its owner made it last, which every place that shows the health reads.
type Report struct {
	Health
	Mark
}

// Mark says which report an answer was made from, and how old that was. Answers with the same number, and of which none
// or all are stale, were made from the same health.
type Mark struct {
	// Number counts the reports of a process from 1. There is a new one when the health has changed, and when its owner
	// goes on after it had stood still.
	Number int64
	// Age is how long ago the owner found the health to be so.
	Age time.Duration
	// Stale: the owner stands still, so nothing is known of the present, and the health says that instead.
	Stale bool
}

// String is the mark as every answer carries it: "12; age=0.503", and where it is, "; stale" behind that. The age is in
// seconds. It is empty where there is no report.
func (m Mark) String() string {
	if m.Number == 0 {
		return ""
	}
	text := strconv.FormatInt(m.Number, 10) + "; age=" + strconv.FormatFloat(m.Age.Seconds(), 'f', 3, 64)
	if m.Stale {
		text += "; stale"
	}
	return text
}

// Equal reports whether two healths say the same.
func (h Health) Equal(other Health) bool {
	return h.Healthy == other.Healthy && h.Status == other.Status && h.State == other.State && h.Stalled == other.Stalled &&
		h.Probed == other.Probed && h.Awaits.Equal(other.Awaits) &&
		h.Worker == other.Worker && h.Broker == other.Broker && h.Database == other.Database &&
		h.StoodSince.Equal(other.StoodSince) && slices.EqualFunc(h.Reasons, other.Reasons, Reason.Equal)
}
