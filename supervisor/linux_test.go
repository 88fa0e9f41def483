package supervisor

func alive(pid int) bool { return lookup(pid).alive() }

func runTestWorker([]string) error { return nil }
