package dashboard

import "fmt"

// form is a button that does something.
type form struct {
	Action, Token, Queue, ID string
	Label, About             string // About completes the label for screen readers
	Confirm                  string // the question that is asked first; empty: none
	Danger                   bool
}

// RestartForm restarts the Python process.
func (p page) RestartForm() form {
	f := form{Action: "restart", Token: p.Token, Label: "Restart", About: "the Python process"}
	if n := p.Running(); n > 0 {
		f.Confirm = fmt.Sprintf("Restart the Python process? %s in it now.", are(n))
	} else {
		f.Confirm = "Restart the Python process?"
	}
	return f
}

func are(tasks int) string {
	if tasks == 1 {
		return "1 task is"
	}
	return grouped(tasks) + " tasks are"
}

// StackForm shows where a running task is.
func (p page) StackForm(t ActiveTask) form {
	return form{Action: "stack", Token: p.Token, Queue: t.Queue, ID: t.ID, Label: "Where is it?", About: "task " + name(t.ID)}
}

// PauseForm pauses a queue, or resumes it.
func (p page) PauseForm(q Queue) form {
	if q.Paused {
		return form{Action: "resume", Token: p.Token, Queue: q.Name, Label: "Resume", About: "queue " + name(q.Name)}
	}
	return form{
		Action: "pause", Token: p.Token, Queue: q.Name, Label: "Pause", About: "queue " + name(q.Name),
		Confirm: "Pause the queue " + name(q.Name) + "? No worker takes its tasks until it is resumed.",
	}
}

// RetryForm runs a failed task again, now.
func (p page) RetryForm(f Failure) form {
	return form{Action: "retry", Token: p.Token, Queue: f.Queue, ID: f.ID, Label: "Retry now", About: "task " + name(f.ID)}
}

// DeleteForm deletes a failed task.
func (p page) DeleteForm(f Failure) form {
	return form{
		Action: "delete", Token: p.Token, Queue: f.Queue, ID: f.ID, Label: "Delete", About: "task " + name(f.ID), Danger: true,
		Confirm: "Delete the task " + name(f.ID) + "? Its payload is lost, and nothing brings it back.",
	}
}
