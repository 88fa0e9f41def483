package dashboard

import (
	"net/http"
	"slices"
)

// visitor is a kind of visitor of the page. This file is the one place that decides what a visitor gets: a View is made
// of what these methods return, so that a template cannot show what its visitor may not see.
type visitor struct {
	trusted  bool // sees what tasks carry (error texts, lines of stderr, progress messages), and may act
	payloads bool // sees payloads too
}

func (d *Dashboard) visitorOf(r *http.Request) visitor { return d.visitor(d.src.Trusted(r)) }

func (d *Dashboard) visitor(trusted bool) visitor {
	return visitor{trusted: trusted, payloads: trusted && d.src.ShowPayloads}
}

// token returns the CSRF token for those who may act.
func (v visitor) token(c csrf) string {
	if !v.trusted {
		return ""
	}
	return c.token
}

// health returns the public health: the page shows the lines of stderr with the process alone.
func (visitor) health(h Health) Health {
	h.Health = h.Public()
	return h
}

func (v visitor) process(p Process, actions Actions) Process {
	p.CanAct = v.trusted && actions.Restart != nil
	p.CanAsk = v.trusted && actions.Stack != nil
	if !v.trusted {
		p.Stderr, p.Stack = nil, ""
	}
	p.Stack = clip(p.Stack)
	p.Stderr = p.Stderr[max(0, len(p.Stderr)-maxStderr):]
	return p
}

func (v visitor) active(a Active) Active {
	a.Tasks = slices.Clone(a.Tasks)
	for i := range a.Tasks {
		t := &a.Tasks[i]
		t.Payload = v.payload(t.Payload)
		if !v.trusted {
			t.Message = ""
		}
	}
	return a
}

func (v visitor) failures(list []Failure) []Failure {
	list = slices.Clone(list)
	for i := range list {
		f := &list[i]
		f.Payload = v.payload(f.Payload)
		if f.Traceback = clip(f.Traceback); !v.trusted {
			f.Error, f.Traceback = "", ""
		}
	}
	return list
}

func (v visitor) payload(text string) string {
	if !v.payloads {
		return ""
	}
	return clip(text)
}
