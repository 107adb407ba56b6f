package pod

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// log takes what one pod writes, through a pipe, and keeps the newest of it:
// POD.log and, once that has grown to its bound, POD.log.1 before it.
//
// A pod that floods its log waits for the pipe: it is its own time that it
// loses, and not the machine's.
type log struct {
	in   *os.File // the pod's end
	out  *os.File
	path string
	max  int64 // bytes of one file

	file    *os.File // nil: it could not be opened; tried again with the next output
	size    int64
	copying chan struct{} // closed when all has been copied
}

// maxRate is how much of a pod's output is taken in a second; what is taken in
// one go is a tenth of it.
const (
	maxRate   = 16 << 20
	ratePause = time.Second / 10
)

// lastOutput is how long is waited for the output of a process that has ended
// but whose pipe somebody still holds.
const lastOutput = 100 * time.Millisecond

// openLog opens the log of a pod and begins to copy. The log must be finished.
func openLog(dir, pod string, max int64) (*log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the log folder: %w", err)
	}
	l := &log{path: filepath.Join(dir, pod+logSuffix), max: max, copying: make(chan struct{})}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("open its log: %w", err)
	}
	var err error
	if l.out, l.in, err = os.Pipe(); err != nil {
		_ = l.file.Close() // nothing has been written
		return nil, fmt.Errorf("open its log: %w", err)
	}
	go func() {
		defer close(l.copying)
		l.copy(l.out)
	}()
	return l, nil
}

// started closes our copy of the pod's end, so that the pipe ends with the
// processes that hold it.
func (l *log) started() { _ = l.in.Close() }

// finish returns when all that the pod wrote is in the log.
func (l *log) finish() {
	l.started()
	_ = l.out.SetReadDeadline(time.Now().Add(lastOutput))
	<-l.copying
	_ = l.out.Close()
	if l.file != nil {
		_ = l.file.Close() // what is lost by that is of a disk that is full
	}
}

func (l *log) copy(from io.Reader) {
	buf := make([]byte, 32<<10)
	begun, taken := time.Now(), 0
	for {
		n, err := from.Read(buf)
		l.write(buf[:n])
		if err != nil {
			return // the end, or time is up
		}
		if now := time.Now(); now.Sub(begun) >= ratePause {
			begun, taken = now, 0
		}
		if taken += n; taken >= int(maxRate*ratePause/time.Second) {
			time.Sleep(time.Until(begun.Add(ratePause)))
		}
	}
}

// write appends to the log. What cannot be written is lost, on a full disk
// for example, and the pod goes on.
func (l *log) write(text []byte) {
	if len(text) == 0 {
		return
	}
	if l.file != nil && l.size+int64(len(text)) > l.max {
		_ = l.file.Close()
		l.file = nil
		if err := os.Rename(l.path, l.path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return // rather than grow beyond the bound
		}
	}
	if l.file == nil && l.open() != nil {
		return
	}
	n, _ := l.file.Write(text)
	l.size += int64(n)
}

func (l *log) open() error {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return err
	}
	l.file, l.size = f, info.Size()
	return nil
}
