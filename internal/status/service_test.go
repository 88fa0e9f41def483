package status

import (
	"strings"
	"testing"
)

func TestServiceFault(t *testing.T) {
	healthy, nobody := Service{Workers: 1, Others: 2}, Service{}
	for name, c := range map[string]struct {
		service  Service
		depth    Depth
		stranded int64
		fault    string
	}{
		"served":              {healthy, Depth{Pending: 3, Due: 1}, 0, ""},
		"nothing waits":       {nobody, Depth{Scheduled: 4, Retry: 2, Archived: 7}, 0, ""},
		"nobody":              {nobody, Depth{Pending: 1}, 1, "1 task waits and no worker serves it"},
		"due and nobody":      {nobody, Depth{Pending: 1, Due: 2}, 3, "3 tasks wait and no worker serves it"},
		"paused":              {nobody, Depth{Pending: 1, Paused: true}, 0, ""},
		"starting":            {Service{Starting: 1, Others: 1}, Depth{Pending: 2}, 2, "2 tasks wait and its worker is starting"},
		"several start":       {Service{Starting: 2}, Depth{Pending: 2}, 2, "2 tasks wait and its workers are starting"},
		"one unhealthy":       {Service{Others: 1}, Depth{Pending: 2}, 2, "2 tasks wait and no healthy worker serves it (1 takes no tasks)"},
		"several unhealthy":   {Service{Others: 2}, Depth{Pending: 2}, 2, "2 tasks wait and no healthy worker serves it (2 take no tasks)"},
		"asynq":               {Service{Asynq: 1}, Depth{Pending: 2, Aggregating: 9}, 0, ""},
		"groups":              {healthy, Depth{Pending: 5, Aggregating: 2}, 2, "2 tasks wait to be aggregated, which no worker does: run an asynq server"},
		"groups of a paused":  {nobody, Depth{Pending: 5, Aggregating: 1, Paused: true}, 1, "1 task waits to be aggregated"},
		"groups alone":        {nobody, Depth{Aggregating: 1}, 1, "1 task waits to be aggregated"},
		"groups and unserved": {nobody, Depth{Pending: 5, Aggregating: 2}, 7, "5 tasks wait and no worker serves it; 2 more are to be aggregated"},
	} {
		if got := c.service.Stranded(c.depth); got != c.stranded {
			t.Errorf("%s: %d stranded, want %d", name, got, c.stranded)
		}
		if got := c.service.Fault(c.depth); !strings.HasPrefix(got, c.fault) || (c.fault == "") != (got == "") {
			t.Errorf("%s: the fault is %q, want %q", name, got, c.fault)
		}
	}
}
