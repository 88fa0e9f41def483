package dashboard

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	formMost = 64 << 10 // bytes of a form
	// restartAnswer is how long the visitor waits for a restart; the page shows how it goes on.
	restartAnswer = 5 * time.Second
	actWithin     = 10 * time.Second
)

// actionHandler carries out what a form asks for: of a trusted visitor, sent from this very page.
func (d *Dashboard) actionHandler() http.Handler {
	origin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, formMost)
		switch {
		case !d.src.Trusted(r):
			d.answer(w, r, http.StatusForbidden, "Only visitors on this machine, not through a proxy, and users of health.web_config may do this.")
			return
		case origin.Check(r) != nil:
			d.answer(w, r, http.StatusForbidden, "This came from a page of another site.")
			return
		case r.ParseForm() != nil:
			d.answer(w, r, http.StatusBadRequest, "The form could not be read.")
			return
		case subtle.ConstantTimeCompare([]byte(r.PostForm.Get("token")), []byte(d.token)) != 1:
			d.answer(w, r, http.StatusForbidden, "This page is of an earlier process of the worker: reload it and try again.")
			return
		}
		d.act(w, r)
	})
}

func (d *Dashboard) act(w http.ResponseWriter, r *http.Request) {
	action, queue, id := r.PathValue("action"), r.PostForm.Get("queue"), r.PostForm.Get("id")
	user, _, _ := r.BasicAuth()
	log := d.src.Logger.With("action", action, "user", user, "remote", r.RemoteAddr)
	var code int
	var text string
	switch action {
	case "restart":
		code, text = d.restart(r.Context())
	case "retry", "delete", "pause", "resume":
		log = log.With("queue", queue)
		if id != "" {
			log = log.With("task_id", id)
		}
		code, text = d.operate(r.Context(), action, queue, id)
	default:
		code, text = http.StatusNotFound, fmt.Sprintf("There is no action %q.", action)
	}
	if code >= http.StatusBadRequest {
		log.Warn("the dashboard could not do what was asked", "error", text)
	} else {
		log.Info("done as asked on the dashboard", "outcome", text)
	}
	d.collect.refresh(r.Context())
	d.changed()
	d.answer(w, r, code, text)
}

// restart hands the restart to Run, whose context it lives under.
func (d *Dashboard) restart(ctx context.Context) (code int, text string) {
	if d.src.Actions.Restart == nil {
		return http.StatusNotFound, "This process runs no Python process."
	}
	patience := time.NewTimer(restartAnswer)
	defer patience.Stop()
	done := make(chan error, 1)
	select {
	case d.jobs <- job{d.src.Actions.Restart, done}:
	case <-patience.C:
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
	case <-patience.C:
		return http.StatusAccepted, "The Python process is being restarted; the page shows how it goes."
	case <-ctx.Done():
		return http.StatusServiceUnavailable, "The worker is stopping."
	}
}

func (d *Dashboard) operate(ctx context.Context, action, queue, id string) (code int, text string) {
	ctx, cancel := context.WithTimeout(ctx, actWithin)
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

// answer tells a script in JSON, and a browser without one by going back to the page or, if it failed, on a page.
func (d *Dashboard) answer(w http.ResponseWriter, r *http.Request, code int, text string) {
	failed := code >= http.StatusBadRequest
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		key := "message"
		if failed {
			key = "error"
		}
		body, _ := json.Marshal(map[string]string{key: text}) // strings always marshal
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write(body)
		return
	}
	if !failed {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	var page pageBuffer
	if err := d.render.message(&page, Message{Title: "That did not work", Text: text}); err != nil {
		d.src.Logger.Error("cannot render the dashboard", "error", err)
		http.Error(w, text, code)
		return
	}
	page.send(w, code)
}
