// Package dashboard is the page at / of the worker's port: all that an operator looks for, at a glance.
//
//	Sources ──▶ collector (Redis, in the background) ─┐
//	Sources (this process) ───────────────────────────┼─▶ Dashboard: a View a second ─▶ renderer ─▶ / and /events
//	Finished ──▶ history ─────────────────────────────┘
//
// The server renders everything, charts included: the page is complete without JavaScript, and the event stream brings
// the same sections again when they have changed. What a visitor may not see is removed before the View is made
// (visitor.go); a form must bring the token of csrf.go. Nothing is read from Redis while no page is open, except for
// the depths of the queues, every fifteen seconds, for the history.
package dashboard
