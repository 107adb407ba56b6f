// Package access says who asks the engine's admin API, and what they may do.
//
// Whoever opens the engine's unix socket may do everything: the file's mode is
// the check, and the kernel says who it is. Over TCP a bearer token is needed.
// Tokens are in a file, of which only their digests are:
//
//	# name  role   sha256 of the token                                               expires (or nothing)
//	ci      scale  9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  2027-01-01T00:00:00Z
//
// Roles: view may read all but Secrets, scale may besides set bounds by hand,
// admin may do everything.
//
// Guarantees: the file is read for each request, so that a token that is taken
// out of it, or has expired, is refused from the next request on, and one that
// cannot be read lets nobody in. A request that goes on, such as a watch, ends
// when its token expires, and within seconds of its being taken back. How long a comparison takes says nothing of the
// tokens.
//
// Non-goals: encryption. A token crosses the network as it is, so an address
// that is not this machine's own needs a proxy with TLS before it.
package access

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"aisle.dev/aisle/activator/engine/audit"
	"aisle.dev/aisle/internal/problem"
)

// Role is what somebody may do; each may all that those before it may.
type Role int

// The roles.
const (
	View Role = iota + 1
	Scale
	Admin
)

var roles = map[string]Role{"view": View, "scale": Scale, "admin": Admin}

func (r Role) String() string {
	for name, role := range roles {
		if role == r {
			return name
		}
	}
	return fmt.Sprintf("role %d", int(r))
}

// ParseRole reads a role's name.
func ParseRole(name string) (Role, error) {
	if r, ok := roles[name]; ok {
		return r, nil
	}
	return 0, fmt.Errorf("%.40q is no role; use view, scale or admin", name)
}

// Needed is the role that a request to the admin API needs. Pattern is the one
// of its mux that the request matches.
func Needed(req *http.Request, pattern string) Role {
	switch {
	case strings.HasSuffix(pattern, ScalePath):
		if req.Method == http.MethodPut || req.Method == http.MethodDelete {
			return Scale
		}
	case strings.HasPrefix(req.URL.Path, "/api") && strings.Contains(strings.ToLower(req.URL.Path)+"/", "/secrets/"):
		return Admin
	}
	if req.Method == http.MethodGet || req.Method == http.MethodHead {
		return View
	}
	return Admin
}

// ScalePath is the pattern of the paths at which bounds are set by hand.
const ScalePath = "/v1/services/{name}/scale"

// Caller is who asks.
type Caller struct {
	Way  audit.Way
	Name string // "uid 1000", or a token's
}

func (c Caller) String() string {
	if c.Way == audit.TCP {
		return "token " + c.Name
	}
	return c.Name
}

type callerKey struct{}

// Of is who asks with a request, as far as [Peer] or [Tokens.Guard] found out.
func Of(req *http.Request) Caller {
	c, _ := req.Context().Value(callerKey{}).(Caller)
	return c
}

// Peer is the ConnContext of a server at a unix socket: it asks the kernel who
// is at the other end.
func Peer(ctx context.Context, conn net.Conn) context.Context {
	c := Caller{Way: audit.Socket, Name: "somebody"}
	if u, ok := conn.(*net.UnixConn); ok {
		if raw, err := u.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { // where it fails the name says so
				if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
					c.Name = fmt.Sprintf("uid %d", cred.Uid)
				}
			})
		}
	}
	return context.WithValue(ctx, callerKey{}, c)
}

// Guard lets through to mux what the tokens allow.
func (t *Tokens) Guard(mux *http.ServeMux) http.Handler {
	return problem.Handler(func(w http.ResponseWriter, req *http.Request) error {
		_, pattern := mux.Handler(req)
		token, err := t.check(req.Header.Get("Authorization"), Needed(req, pattern))
		if err != nil {
			if problem.Status(err) == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="aisle"`)
			}
			return err
		}
		ctx, cancel := context.WithCancel(context.WithValue(req.Context(), callerKey{}, Caller{Way: audit.TCP, Name: token.Name}))
		if !token.Expires.IsZero() {
			var expire context.CancelFunc
			ctx, expire = context.WithDeadline(ctx, token.Expires)
			defer expire()
		}
		var watch sync.WaitGroup
		watch.Go(func() { t.follow(ctx, cancel, req.Header.Get("Authorization"), Needed(req, pattern)) })
		defer watch.Wait()
		defer cancel()
		mux.ServeHTTP(w, req.WithContext(ctx))
		return nil
	}, func(_ *http.Request, err error) { t.log.Error("a request is not answered", "err", err) })
}

// recheck is how soon a request ends whose token was taken back.
const recheck = 5 * time.Second

// follow ends a request that goes on when it would not be let in any more.
func (t *Tokens) follow(ctx context.Context, end func(), header string, needed Role) {
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := t.check(header, needed); err != nil {
				end()
				return
			}
		}
	}
}

// check finds the token of a request, or says why it is refused.
func (t *Tokens) check(header string, needed Role) (Token, error) {
	scheme, secret, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return Token{}, problem.New(http.StatusUnauthorized, "a token is needed: Authorization: Bearer TOKEN; the engine's operator makes one with: aisle token new NAME --role %s", needed)
	}
	all, err := Read(t.path)
	if err != nil {
		t.log.Error("nobody is let in over TCP", "err", err)
		return Token{}, &problem.Error{Status: http.StatusServiceUnavailable, Detail: "the engine cannot read its tokens; its log says why", RetryAfter: 10 * time.Second}
	}
	found, ok := find(all, strings.TrimSpace(secret))
	switch {
	case !ok:
		return Token{}, problem.New(http.StatusUnauthorized, "the engine does not know this token; it may have been taken back")
	case !found.Expires.IsZero() && !time.Now().Before(found.Expires):
		return Token{}, problem.New(http.StatusUnauthorized, "the token %s expired at %s; ask for a new one", found.Name, found.Expires.Format(time.RFC3339))
	case found.Role < needed:
		return Token{}, problem.New(http.StatusForbidden, "this needs the role %s; the token %s has %s", needed, found.Name, found.Role)
	}
	return found, nil
}
