package queue

import (
	_ "embed"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/requeue.lua
var requeueLua string

//go:embed lua/guard.lua
var guardLua string

//go:embed lua/audit.lua
var auditLua string

//go:embed lua/active.lua
var activeLua string

//go:embed lua/recover.lua
var recoverLua string

//go:embed lua/assign.lua
var assignLua string

//go:embed lua/return_direct.lua
var returnDirectLua string

//go:embed lua/run.lua
var runLua string

//go:embed lua/remove_direct.lua
var removeDirectLua string

//go:embed lua/archive_unreadable.lua
var archiveUnreadableLua string

//go:embed lua/lists.lua
var listsLua string

//go:embed lua/upcoming.lua
var upcomingLua string

//go:embed lua/view.lua
var viewLua string

//go:embed lua/day.lua
var dayLua string

//go:embed lua/cycle.lua
var cycleLua string

//go:embed lua/forget_cycle.lua
var forgetCycleLua string

//go:embed lua/renew.lua
var renewLua string

//go:embed lua/owned.lua
var ownedLua string

//go:embed lua/clock.lua
var clockLua string

//go:embed lua/lapsed.lua
var lapsedLua string

// scripts are the Lua scripts of ours, hashed once per consumer.
type scripts struct {
	requeue, audit, archiveUnreadable     *redis.Script
	lists, upcoming, view                 *redis.Script
	active, recover, assign, returnDirect *redis.Script
	run, removeDirect                     *redis.Script
	cycle, forgetCycle                    *redis.Script
	renew, owned, lapsed                  *redis.Script
}

func newScripts() scripts {
	return scripts{
		requeue: redis.NewScript(requeueLua),
		audit:   redis.NewScript(auditLua),
		active:  redis.NewScript(activeLua),
		recover: redis.NewScript(recoverLua),

		archiveUnreadable: redis.NewScript(archiveUnreadableLua),

		assign:       redis.NewScript(assignLua),
		returnDirect: redis.NewScript(returnDirectLua),
		run:          redis.NewScript(runLua),
		removeDirect: redis.NewScript(removeDirectLua),
		lists:        redis.NewScript(listsLua),
		upcoming:     redis.NewScript(upcomingLua),
		view:         redis.NewScript(viewLua),

		cycle:       redis.NewScript(dayLua + cycleLua),
		forgetCycle: redis.NewScript(forgetCycleLua),

		renew:  redis.NewScript(renewLua),
		owned:  redis.NewScript(ownedLua),
		lapsed: redis.NewScript(lapsedLua),
	}
}
