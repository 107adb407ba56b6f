package delivery

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// State says on the disk how far the sending of a file has come, so that it
// goes on from there whatever ended it. It is written after each record, in
// place: what a killed process has left is the truth but for records in flight,
// which are sent again as the same events.
type State struct {
	path   string
	file   *os.File
	at     int64 // where the position begins
	done   int
	failed int
}

// Sending is what a state is about. Another one does not go on from it.
type Sending struct {
	Size     int64  `json:"size"` // of the file, bytes
	Modified string `json:"modified"`
	Ends     string `json:"ends"` // SHA-256 of the file's first and last 64 KiB
	How      string `json:"how"`  // where to, and by which flags
}

// positionFormat has a fixed width: a position is written over the one before
// by a single write.
const positionFormat = "%20d %20d\n"

const positionSize = 42

// ends is how much of a file's beginning and end tells it from another.
const ends = 64 << 10

// NewSending looks at a file.
func NewSending(file *os.File, how string) (Sending, error) {
	info, err := file.Stat()
	if err != nil {
		return Sending{}, err
	}
	if !info.Mode().IsRegular() {
		return Sending{}, fmt.Errorf("%s is no regular file; what has been sent of it cannot be told", file.Name())
	}
	sum := sha256.New()
	for _, from := range []int64{0, max(0, info.Size()-ends)} {
		if _, err := io.Copy(sum, io.NewSectionReader(file, from, ends)); err != nil {
			return Sending{}, fmt.Errorf("read %s: %w", file.Name(), err)
		}
	}
	return Sending{info.Size(), info.ModTime().UTC().Format("2006-01-02T15:04:05.999999999Z"), hex.EncodeToString(sum.Sum(nil)), how}, nil
}

// ErrOtherSending is in the chain of the error of a state that is of another
// file, or of another way to send it.
var ErrOtherSending = errors.New("the state is of another sending")

// OpenState opens the state at a path, or begins one. Done is how many of the
// file's records have been sent, failed how many of them were not taken.
func OpenState(path string, s Sending) (state *State, done, failed int, err error) {
	head, err := json.Marshal(s)
	if err != nil {
		return nil, 0, 0, err
	}
	head = append(head, '\n')
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		// Whole, or not there: it is written beside and renamed.
		err = writeWhole(path, fmt.Appendf(head, positionFormat, 0, 0))
		text = fmt.Appendf(head, positionFormat, 0, 0)
	}
	if err != nil {
		return nil, 0, 0, fmt.Errorf("keep how far it has come: %w", err)
	}
	var was Sending
	if i := len(text) - positionSize; i <= 0 || json.Unmarshal(text[:i], &was) != nil || readPosition(text[i:], &done, &failed) != nil {
		return nil, 0, 0, fmt.Errorf("%s is no state of a sending; give another name with --state, or remove it", path)
	}
	switch {
	case was.How != s.How:
		return nil, done, failed, fmt.Errorf("%w: %s was sent with other flags, or to another place (%s)", ErrOtherSending, path, was.How)
	case was != s:
		return nil, done, failed, fmt.Errorf("%w: the file has changed since", ErrOtherSending)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("keep how far it has come: %w", err)
	}
	return &State{path: path, file: file, at: int64(len(text) - positionSize), done: done, failed: failed}, done, failed, nil
}

func readPosition(text []byte, done, failed *int) error {
	_, err := fmt.Sscanf(string(text), "%d %d", done, failed)
	if err == nil && (*done < 0 || *failed < 0) {
		err = errors.New("it is negative")
	}
	return err
}

func writeWhole(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error says more
	}
	return err
}

// Done notes that the file's first n records have been sent.
func (s *State) Done(n int, failed bool) error {
	s.done = n
	if failed {
		s.failed++
	}
	if _, err := s.file.WriteAt(fmt.Appendf(nil, positionFormat, s.done, s.failed), s.at); err != nil {
		return fmt.Errorf("keep how far it has come: %w", err)
	}
	return nil
}

// Close ends it; whole says that nothing is left to send, and removes it.
func (s *State) Close(whole bool) error {
	err := errors.Join(s.file.Sync(), s.file.Close())
	if whole {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}
