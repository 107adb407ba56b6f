package pod

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of what pods' output may take up: two files of MaxLog per pod, and
// the logs of KeptLogs pods per revision.
const (
	MaxLog   = 8 << 20
	KeptLogs = 10
)

const logSuffix = ".log"

// Prune removes all but the newest KeptLogs logs of a revision. The logs of
// pods for which live is true stay.
func Prune(dir, revision string, live func(pod string) bool) error {
	names, err := Logs(dir, func(pod string) bool { return strings.HasPrefix(pod, revision+"-") })
	if err != nil || len(names) <= KeptLogs {
		return err
	}
	return remove(dir, names[:len(names)-KeptLogs], live)
}

// Forget removes the logs of every pod for which keep is false.
func Forget(dir string, keep func(pod string) bool) error {
	names, err := Logs(dir, func(string) bool { return true })
	if err != nil {
		return err
	}
	return remove(dir, names, keep)
}

func remove(dir string, pods []string, keep func(pod string) bool) error {
	var errs []error
	for _, p := range pods {
		if keep(p) {
			continue
		}
		for _, suffix := range []string{logSuffix, logSuffix + ".1"} {
			if err := os.Remove(filepath.Join(dir, p+suffix)); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Logs names the pods whose logs are kept and for which match is true, those
// that wrote last at the end.
func Logs(dir string, match func(pod string) bool) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	type log struct {
		pod string
		at  int64
	}
	var logs []log
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), logSuffix)
		if !ok || !match(name) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // removed meanwhile
		}
		logs = append(logs, log{name, info.ModTime().UnixNano()})
	}
	slices.SortStableFunc(logs, func(a, b log) int {
		if a.at != b.at {
			return int(min(1, max(-1, a.at-b.at)))
		}
		return strings.Compare(a.pod, b.pod)
	})
	names := make([]string, len(logs))
	for i, l := range logs {
		names[i] = l.pod
	}
	return names, nil
}

// maxTail bounds how much of a log's end Tail reads.
const maxTail = 4 << 10

// Tail returns the last lines of a pod's log, at most n of them.
func Tail(dir, pod string, n int) string {
	f, err := os.Open(filepath.Join(dir, pod+logSuffix))
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	text, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-maxTail), maxTail))
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if len(lines) > 1 && info.Size() > maxTail {
		lines = lines[1:] // the first is a torn one
	}
	return strings.ToValidUTF8(string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))), "�")
}
