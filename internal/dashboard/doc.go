// Package dashboard is the page at / of the worker's port: everything an operator looks for, at a glance.
//
//	Sources ──▶ collector (Redis, in the background) ─┐
//	Sources (this process) ───────────────────────────┼─▶ hub: a View a second ─▶ renderer ─▶ / and /events
//	Observe ──▶ history ──────────────────────────────┘
//
// The server renders everything, charts included: the page is complete without JavaScript, and the event stream brings
// the very same sections again when they have changed. What a visitor may not see is taken out of the View before it is
// rendered (see Sources.Trusted). Nothing is read from Redis for a page that nobody looks at, but for the depths of the
// queues, every fifteen seconds, for the history.
package dashboard
