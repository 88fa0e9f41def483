package main

import "context"

func writePage(string, *results) error { return nil }
func (o options) writeAgain() error    { return nil }

const roleAsynq = "asynq"

func serveAsynq(context.Context, []string) error { return nil }

var peers = map[string]func() subject{}
