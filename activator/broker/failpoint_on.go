//go:build failpoint

package broker

import (
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
)

// failpoint kills the process in one of FAILPOINT_ONE_IN visits: where a
// result is in the store and the event that it is of is not acknowledged.
func failpoint(string) {
	n, err := strconv.Atoi(os.Getenv("FAILPOINT_ONE_IN"))
	if err == nil && n > 0 && rand.IntN(n) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // a process may always end itself
		select {}
	}
}
