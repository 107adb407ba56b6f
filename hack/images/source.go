package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

const (
	module   = "aisle.dev/aisle"
	home     = "https://aisle.dev/aisle"
	license  = "Apache-2.0"
	nonRoot  = "65532:65532"
	modelDir = "/models"
)

// source says what was built.
type source struct {
	revision string // of the commit; "-dirty" after it where files differ
	version  string // git describe's; the revision's first digits where there is no tag
	time     time.Time
}

// readSource asks git. SOURCE_DATE_EPOCH replaces the commit's time
// (https://reproducible-builds.org/specs/source-date-epoch/).
func readSource(ctx context.Context, root string, getenv func(string) string) (source, error) {
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...)
		out, err := cmd.Output()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		if err != nil {
			return "", fmt.Errorf("git %s (images are labelled with the commit; build in a clone): %w", args[0], err)
		}
		return strings.TrimSpace(string(out)), nil
	}
	var s source
	var err error
	if s.revision, err = git("rev-parse", "HEAD"); err != nil {
		return s, err
	}
	changed, err := git("status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return s, err
	}
	if s.version, err = git("describe", "--tags", "--always", "--abbrev=12"); err != nil {
		return s, err
	}
	if changed != "" {
		s.revision += "-dirty"
		s.version += "-dirty"
	}
	epoch := getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		if epoch, err = git("log", "-1", "--format=%ct"); err != nil {
			return s, err
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < 0 {
		return s, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", epoch)
	}
	s.time = time.Unix(seconds, 0).UTC()
	return s, nil
}
