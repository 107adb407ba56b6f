package access

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// maxFile bounds the file of tokens, which is read for each request.
const maxFile = 64 << 10

// Token is one line of the file.
type Token struct {
	Name    string
	Role    Role
	Digest  [sha256.Size]byte
	Expires time.Time // zero: never
}

// Tokens is a file of them.
type Tokens struct {
	path string
	log  *slog.Logger
}

// Open checks a file of tokens.
func Open(path string, log *slog.Logger) (*Tokens, error) {
	if _, err := Read(path); err != nil {
		return nil, err
	}
	return &Tokens{path, log}, nil
}

// Read reads a file of tokens. One that others may read or write is refused.
func Read(path string) ([]Token, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file of tokens %s; make one with: aisle token new NAME --role scale --admin-tokens %s (%w)", path, path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o037 != 0 {
		return nil, fmt.Errorf("the tokens in %s are open to others (mode %v); chmod 600 %s", path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	all, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

// name is how a token may be called.
var name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$`)

func parse(text []byte) ([]Token, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("a file of tokens has at most %d bytes", maxFile)
	}
	var all []Token
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) < 3 || len(words) > 4 {
			return nil, fmt.Errorf("line %d: want NAME ROLE SHA256 [EXPIRES], have %d words", n, len(words))
		}
		t := Token{Name: words[0]}
		if !name.MatchString(t.Name) {
			return nil, fmt.Errorf("line %d: %.40q is no name: letters, digits and . _ @ -", n, t.Name)
		}
		var err error
		if t.Role, err = ParseRole(words[1]); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		digest, err := hex.DecodeString(words[2])
		if err != nil || len(digest) != len(t.Digest) {
			return nil, fmt.Errorf("line %d: the third word is no SHA-256 in hexadecimal digits", n)
		}
		copy(t.Digest[:], digest)
		if len(words) == 4 {
			if t.Expires, err = time.Parse(time.RFC3339, words[3]); err != nil || t.Expires.IsZero() {
				return nil, fmt.Errorf("line %d: %.40q is not a time such as 2027-01-01T00:00:00Z", n, words[3])
			}
		}
		if slices.ContainsFunc(all, func(o Token) bool { return o.Name == t.Name }) {
			return nil, fmt.Errorf("line %d: there is a token %s already", n, t.Name)
		}
		all = append(all, t)
	}
	return all, lines.Err()
}

// find gives the token of a secret. It compares with all of them in constant
// time.
func find(all []Token, secret string) (found Token, ok bool) {
	digest := sha256.Sum256([]byte(secret))
	for _, t := range all {
		if subtle.ConstantTimeCompare(digest[:], t.Digest[:]) == 1 {
			found, ok = t, true
		}
	}
	return found, ok
}

// Add makes a token and adds it to a file, which it makes where there is none.
// The secret is in no file.
func Add(path, called string, role Role, expires time.Time) (secret string, err error) {
	if !name.MatchString(called) {
		return "", fmt.Errorf("%.40q is no name for a token: letters, digits and . _ @ -", called)
	}
	all, err := Read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if slices.ContainsFunc(all, func(t Token) bool { return t.Name == called }) {
		return "", fmt.Errorf("%s has a token %s already; take its line out first, or choose another name", path, called)
	}
	secret = "aisle_" + rand.Text()
	line := fmt.Sprintf("%s %s %x", called, role, sha256.Sum256([]byte(secret)))
	if !expires.IsZero() {
		line += " " + expires.UTC().Format(time.RFC3339)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return "", fmt.Errorf("keep the token: %w", err)
	}
	if err = end(f, maxFile-len(line)-2); err == nil {
		_, err = f.WriteString(line + "\n")
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("keep the token: %w", err)
	}
	return secret, nil
}

// end gives the last line of a file its end, where people have left it out. A
// file of more than limit bytes is full.
func end(f *os.File, limit int) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	if info.Size() > int64(limit) {
		return fmt.Errorf("%s has no room left in its %d bytes; take out what has expired", f.Name(), maxFile)
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.Write([]byte{'\n'})
	return err
}
