package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// install puts Knative into a running node. It may be repeated at any point.
func install(ctx context.Context, l layout, say func(string, ...any)) error {
	if _, err := os.Stat(l.installed()); err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 8*time.Minute, errors.New("not within 8m"))
	defer cancel()
	apply := func(names ...string) error {
		for _, name := range names {
			// A webhook that is known and not yet there refuses what it should admit.
			err := within(ctx, 2*time.Minute, "Knative to take "+name, func(ctx context.Context) error {
				_, err := kubectl(ctx, l.bin("hyper"), l.kubeconfig(), nil,
					"apply", "--server-side", "--force-conflicts", "--field-manager=aisle-"+name, "-f", filepath.Join(l.manifests(), name+".yaml"))
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	var imports sync.WaitGroup
	defer imports.Wait()
	failed := make(chan error, 1)
	imports.Go(func() {
		for _, group := range []string{"serving", "eventing"} { // one after the other: they share a disk
			if err := importImages(ctx, l, group); err != nil {
				failed <- err
				cancel()
				return
			}
			say("images of %s imported", group)
		}
	})
	err := errors.Join(apply("crds"), waitFor(ctx, l, time.Minute, "--for=condition=Established", "crd", "--all"),
		apply("serving", "settings", "ingress", "eventing"))
	if err == nil {
		say("Knative applied")
		imports.Wait()
		for _, namespace := range []string{"knative-serving", "knative-ingress", "knative-eventing"} {
			if err = waitFor(ctx, l, 4*time.Minute, "--for=condition=Available", "-n", namespace, "deployment", "--all"); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = apply("serving-webhooks", "eventing-webhooks")
	}
	select {
	case cause := <-failed:
		return cause
	default:
	}
	if err != nil {
		return err
	}
	return writeFile(l.installed(), nil, 0o600)
}

// waitFor is kubectl's wait, in pieces so that ctx and a part's end are noticed.
func waitFor(ctx context.Context, l layout, d time.Duration, args ...string) error {
	return within(ctx, d, strings.Join(args, " "), func(ctx context.Context) error {
		_, err := kubectl(ctx, l.bin("hyper"), l.kubeconfig(), nil, append([]string{"wait", "--timeout=5s"}, args...)...)
		return err
	})
}

// dump shows what one wants to know of a cluster that has failed.
func dump(ctx context.Context, l layout, w io.Writer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	show := func(args ...string) {
		fmt.Fprintf(w, "--- kubectl %s\n", strings.Join(args, " "))
		cmd := exec.CommandContext(ctx, l.bin("hyper"), append([]string{"kubectl", "--request-timeout=5s"}, args...)...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+l.kubeconfig())
		cmd.Stdout, cmd.Stderr = w, w
		_ = cmd.Run() // it is about a cluster that may not answer
	}
	if _, err := os.Stat(l.kubeconfig()); err == nil {
		show("get", "nodes,pods", "-A", "-o", "wide")
		show("get", "ksvc,revisions,brokers,triggers", "-A")
		show("get", "events", "-A", "--sort-by=.lastTimestamp", "--field-selector=type!=Normal")
		for _, of := range [][]string{{"knative-serving", "controller"}, {"knative-serving", "activator"}, {"knative-serving", "autoscaler"}, {"knative-ingress", "gateway"}} {
			show("logs", "-n", of[0], "deployment/"+of[1], "--tail=25")
		}
		out, _ := kubectl(ctx, l.bin("hyper"), l.kubeconfig(), nil, "get", "pods", "-A", "--no-headers",
			"-o", "custom-columns=:metadata.namespace,:metadata.name,:status.phase,:status.containerStatuses[*].ready")
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) == 4 && !(f[2] == "Running" && !strings.Contains(f[3], "false")) {
				show("logs", "-n", f[0], f[1], "--all-containers", "--tail=25")
			}
		}
	}
	files, _ := filepath.Glob(l.logs("*.log"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintln(w, err)
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Fprintf(w, "--- %s, last of %d lines\n%s\n", filepath.Base(f), len(lines), strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
}
