package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	maxForm = 64 << 10 // bytes of a form
	// restartWait is how long the visitor waits for the outcome of a restart; the page shows what follows.
	restartWait   = 5 * time.Second
	actionTimeout = 10 * time.Second
)

// actionHandler carries out what a form asks for, when a trusted visitor has sent it from this very page.
func (d *Dashboard) actionHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if !d.visitorOf(r).trusted {
			d.answer(w, r, http.StatusForbidden, "Only visitors on this machine, not through a proxy, and users of health.web_config may do this.")
			return
		}
		if code, text := d.csrf.check(r); code != 0 {
			d.answer(w, r, code, text)
			return
		}
		d.act(w, r)
	})
}

func (d *Dashboard) act(w http.ResponseWriter, r *http.Request) {
	action, queue, id := r.PathValue("action"), r.PostForm.Get("queue"), r.PostForm.Get("id")
	user, _, _ := r.BasicAuth()
	log := d.log.With("action", action, "user", user, "address", r.RemoteAddr)
	var code int
	var text, details string
	switch action {
	case "stack":
		log = log.With("task_id", id)
		code, text, details = d.stack(r.Context(), id)
	case "restart":
		code, text = d.restart(r.Context())
	case "retry", "delete", "pause", "resume":
		log = log.With("queue", queue)
		if id != "" {
			log = log.With("task_id", id)
		}
		code, text = d.manage(r.Context(), action, queue, id)
	default:
		code, text = http.StatusNotFound, fmt.Sprintf("There is no action %q.", action)
	}
	if code >= http.StatusBadRequest {
		log.Warn("action failed", "error", text)
	} else {
		log.Info("action done", "outcome", text)
	}
	d.collect.refresh(r.Context())
	d.update()
	d.answerWith(w, r, code, text, details)
}

// stack says where a task is.
func (d *Dashboard) stack(ctx context.Context, id string) (code int, text, stacks string) {
	if d.src.Actions.Stack == nil {
		return http.StatusNotFound, "This process runs no Python process.", ""
	}
	ctx, cancel := context.WithTimeout(ctx, actionTimeout)
	defer cancel()
	where, stacks, err := d.src.Actions.Stack(ctx, id)
	switch {
	case err != nil:
		return http.StatusConflict, sentence(err), ""
	case where == "":
		return http.StatusOK, "No handler runs, or the process does not say where.", stacks
	}
	return http.StatusOK, "At " + where + ".", stacks
}

// restart hands the restart to Run, so that it does not end with the request.
func (d *Dashboard) restart(ctx context.Context) (code int, text string) {
	if d.src.Actions.Restart == nil {
		return http.StatusNotFound, "This process runs no Python process."
	}
	timeout := time.NewTimer(restartWait)
	defer timeout.Stop()
	done := make(chan error, 1)
	select {
	case d.jobs <- job{d.src.Actions.Restart, done}:
	case <-timeout.C:
		return http.StatusConflict, "Another restart is under way."
	case <-ctx.Done():
		return http.StatusServiceUnavailable, "The worker is stopping."
	}
	select {
	case err := <-done:
		if err != nil {
			return http.StatusBadGateway, sentence(err)
		}
		return http.StatusOK, "The Python process was restarted."
	case <-timeout.C:
		return http.StatusAccepted, "The Python process is being restarted; the page shows how it goes."
	case <-ctx.Done():
		return http.StatusServiceUnavailable, "The worker is stopping."
	}
}

// manage retries or deletes a failed task, or pauses or resumes a queue.
func (d *Dashboard) manage(ctx context.Context, action, queue, id string) (code int, text string) {
	ctx, cancel := context.WithTimeout(ctx, actionTimeout)
	defer cancel()
	known := slices.ContainsFunc(d.collect.fresh(ctx).queues, func(q Queue) bool { return q.Name == queue })
	switch {
	case !known:
		return http.StatusNotFound, fmt.Sprintf("The queue %q is not served here, or could not be read.", queue)
	case id == "" && (action == "retry" || action == "delete"):
		return http.StatusBadRequest, "The form names no task."
	}
	var err error
	switch action {
	case "retry":
		text, err = "The task is pending again.", d.src.Actions.Retry(ctx, queue, id)
	case "delete":
		text, err = "The task is deleted.", d.src.Actions.Delete(ctx, queue, id)
	case "pause":
		text, err = "The queue is paused: no worker takes its tasks until it is resumed.", d.src.Actions.Pause(ctx, queue)
	case "resume":
		text, err = "The queue is resumed.", d.src.Actions.Resume(ctx, queue)
	}
	if err != nil {
		return http.StatusConflict, sentence(err)
	}
	return http.StatusOK, text
}

// sentence is the first line of an error, with a capital and a full stop.
func sentence(err error) string {
	text := firstLine(err.Error())
	if text == "" {
		return "It failed."
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

func (d *Dashboard) answer(w http.ResponseWriter, r *http.Request, code int, text string) {
	d.answerWith(w, r, code, text, "")
}

// answerWith answers a script in JSON. A browser without one is sent back to the page or, when the action failed or there
// are details to read, gets the text as a page of its own.
func (d *Dashboard) answerWith(w http.ResponseWriter, r *http.Request, code int, text, details string) {
	failed := code >= http.StatusBadRequest
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		key := "message"
		if failed {
			key = "error"
		}
		fields := map[string]string{key: text}
		if details != "" {
			fields["details"] = details
		}
		body, _ := json.Marshal(fields) // strings always marshal
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write(body)
		return
	}
	if !failed && details == "" {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	var document pageBuffer
	message := Message{Title: "That did not work", Text: text}
	if !failed {
		message = Message{OK: true, Title: "Where it is", Text: text, Details: details}
	}
	if err := d.render.message(&document, message); err != nil {
		d.log.Error("render failed", "error", err)
		http.Error(w, text, code)
		return
	}
	document.send(w, code)
}
