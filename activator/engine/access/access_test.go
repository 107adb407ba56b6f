package access

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aisle.dev/aisle/activator/engine/audit"
)

func added(t *testing.T, path, name string, role Role, expires time.Time) string {
	t.Helper()
	secret, err := Add(path, name, role, expires)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// api is as much of the admin API as roles are about. It answers with who asks.
func api() *http.ServeMux {
	mux := http.NewServeMux()
	told := func(w http.ResponseWriter, req *http.Request) { _, _ = io.WriteString(w, Of(req).String()) }
	for _, pattern := range []string{"GET /v1/services", ScalePath, "GET /v1/logs/{name...}", "/v1/events/", "GET /metrics", "/api/", "/apis/", "/"} {
		mux.HandleFunc(pattern, told)
	}
	return mux
}

func TestRoles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	var secrets [Admin + 1]string
	for _, r := range []Role{View, Scale, Admin} {
		secrets[r] = added(t, path, "a-"+r.String(), r, time.Now().Add(time.Hour))
	}
	tokens, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	guarded := tokens.Guard(api())
	for _, tt := range []struct {
		method, path string
		needs        Role
	}{
		{"GET", "/v1/services", View},
		{"HEAD", "/v1/services", View},
		{"GET", "/v1/services/title/scale", View},
		{"GET", "/v1/logs/title", View},
		{"GET", "/metrics", View},
		{"GET", "/apis/serving.knative.dev/v1/services", View},
		{"GET", "/api/v1/namespaces/default/configmaps/scale", View},
		{"PUT", "/v1/services/title/scale", Scale},
		{"PUT", "/v1/services/shop%2Ftitle/scale", Scale},
		{"DELETE", "/v1/services/title/scale", Scale},
		{"POST", "/v1/services/title/scale", Admin},
		{"GET", "/api/v1/secrets", Admin},
		{"GET", "/api/v1/namespaces/default/secrets/key", Admin},
		{"GET", "/api/v1/namespaces/default/%73ecrets", Admin},
		{"PATCH", "/apis/serving.knative.dev/v1/namespaces/default/services/title", Admin},
		{"PATCH", "/apis/scaling.aisle.dev/v1alpha1/namespaces/default/scalingschedules/v1/services/title/scale", Admin},
		{"DELETE", "/apis/serving.knative.dev/v1/namespaces/default/services/scale", Admin},
		{"POST", "/v1/events/dead-letters", Admin},
		{"PUT", "/whatever/scale", Admin},
	} {
		for _, has := range []Role{View, Scale, Admin} {
			req := httptest.NewRequest(tt.method, tt.path, nil)
			req.Header.Set("Authorization", "Bearer "+secrets[has])
			w := httptest.NewRecorder()
			guarded.ServeHTTP(w, req)
			switch {
			case has >= tt.needs && (w.Code != http.StatusOK || w.Body.String() != "token a-"+has.String()):
				t.Errorf("%s %s as %s: %d %s", tt.method, tt.path, has, w.Code, w.Body)
			case has < tt.needs && (w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "the role "+tt.needs.String())):
				t.Errorf("%s %s as %s: %d %s; want 403 that names %s", tt.method, tt.path, has, w.Code, w.Body, tt.needs)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	good := added(t, path, "good", Admin, time.Time{})
	late := added(t, path, "late", Admin, time.Now().Add(-time.Second))
	var said bytes.Buffer
	tokens, err := Open(path, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(authorization string) *httptest.ResponseRecorder {
		req := httptest.NewRequest("GET", "/v1/services", nil)
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		tokens.Guard(api()).ServeHTTP(w, req)
		return w
	}
	for _, tt := range []struct{ name, authorization, says string }{
		{"nothing", "", "a token is needed"},
		{"another scheme", "Basic " + good, "a token is needed"},
		{"an empty token", "Bearer ", "a token is needed"},
		{"an unknown token", "Bearer " + good + "x", "does not know"},
		{"a digest in place of the token", fmt.Sprintf("Bearer %x", sha256.Sum256([]byte(good))), "does not know"},
		{"an expired token", "Bearer " + late, "the token late expired"},
	} {
		w := ask(tt.authorization)
		if w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), tt.says) || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s: %d %s %v", tt.name, w.Code, w.Body, w.Header())
		}
	}
	if w := ask("bearer " + good); w.Code != http.StatusOK {
		t.Errorf("a good token: %d %s", w.Code, w.Body)
	}
	// What changes in the file counts at once.
	text, err := os.ReadFile(path)
	if err == nil {
		_, others, _ := strings.Cut(string(text), "\n")
		err = os.WriteFile(path, []byte(others), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if w := ask("Bearer " + good); w.Code != http.StatusUnauthorized {
		t.Errorf("a token that was taken back: %d", w.Code)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if w := ask("Bearer " + late); w.Code != http.StatusServiceUnavailable || !strings.Contains(said.String(), "chmod 600") {
		t.Errorf("a file that others may read: %d %s, and the log says %s", w.Code, w.Body, &said)
	}
}

// A request that goes on ends with its token.
func TestEndsWithItsToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	secret := added(t, path, "a", View, expires)
	tokens, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(_ http.ResponseWriter, req *http.Request) {
		if end, ok := req.Context().Deadline(); !ok || !end.Equal(expires) {
			t.Errorf("ends at %v, want %v", end, expires)
		}
	})
	req := httptest.NewRequest("GET", "/", nil)
	req.Header.Set("Authorization", "Bearer "+secret)
	tokens.Guard(mux).ServeHTTP(httptest.NewRecorder(), req)
}

// A request that goes on ends soon after its token was taken back.
func TestEndsWithoutItsToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	secret := added(t, path, "a", View, time.Time{})
	synctest.Test(t, func(t *testing.T) {
		tokens, err := Open(path, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		mux := http.NewServeMux()
		mux.HandleFunc("/", func(_ http.ResponseWriter, req *http.Request) {
			time.AfterFunc(time.Minute, func() {
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Error(err)
				}
			})
			<-req.Context().Done()
		})
		req := httptest.NewRequest("GET", "/", nil)
		req.Header.Set("Authorization", "Bearer "+secret)
		tokens.Guard(mux).ServeHTTP(httptest.NewRecorder(), req)
		if went := time.Since(began); went < time.Minute || went > time.Minute+recheck {
			t.Errorf("it went on for %v", went)
		}
	})
}

func TestAdd(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tokens")
	if _, err := Open(path, nil); err == nil || !strings.Contains(err.Error(), "aisle token new") {
		t.Errorf("no file: %v", err)
	}
	first := added(t, path, "first", View, time.Time{})
	text, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(text), first) {
		t.Errorf("%v: the file has the secret itself: %s", err, text)
	}
	// As people edit it.
	if err := os.WriteFile(path, []byte("# ours\n\n"+strings.TrimSpace(string(text))+" # by hand"), 0o640); err != nil {
		t.Fatal(err)
	}
	second := added(t, path, "second", Scale, time.Now().Add(time.Hour))
	all, err := Read(path)
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, secret := range []string{first, second} {
		if _, ok := find(all, secret); !ok {
			t.Errorf("%s is not found", secret)
		}
	}
	if first == second || len(first) < 30 {
		t.Errorf("secrets %q and %q", first, second)
	}
	for _, name := range []string{"first", "", "a b", "-a", "a#b", strings.Repeat("a", 64)} {
		if _, err := Add(path, name, View, time.Time{}); err == nil {
			t.Errorf("a token %q is made", name)
		}
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("#\n"), maxFile/2-10), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Add(path, "full", View, time.Time{}); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("a full file: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	digest := strings.Repeat("0", 64)
	for _, tt := range []struct{ name, text, says string }{
		{"two words", "a view", "line 1"},
		{"five words", "a view " + digest + " 2027-01-01T00:00:00Z x", "line 1"},
		{"a role that is none", "\na root " + digest, "line 2: \"root\" is no role"},
		{"a token in place of its digest", "a view aisle_ABC", "SHA-256"},
		{"half a digest", "a view " + digest[:32], "SHA-256"},
		{"a date", "a view " + digest + " 2027-01-01", "2027-01-01T00:00:00Z"},
		{"the same name twice", "a view " + digest + "\na admin " + digest, "line 2: there is a token a already"},
		{"a hostile name", "\x1b[2J view " + digest, "no name"},
		{"too much", strings.Repeat("#", maxFile+1), "at most"},
	} {
		if all, err := parse([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, %v; want %q", tt.name, all, err, tt.says)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("a view " + strings.Repeat("0", 64) + " 2027-01-01T00:00:00Z # x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parse(text)
		if err != nil {
			return
		}
		for _, token := range all {
			if token.Role < View || token.Role > Admin || !name.MatchString(token.Name) {
				t.Errorf("%+v", token)
			}
		}
		if _, ok := find(all, ""); ok {
			t.Error("the empty secret is found")
		}
	})
}

// The kernel says who is at the other end of a socket.
func TestPeer(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.WriteString(w, string(Of(req).Way)+" "+Of(req).String())
	}), ConnContext: Peer}
	go func() { _ = s.Serve(l) }() // ends with Close
	defer s.Close()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", l.Addr().String())
	}, DisableKeepAlives: true}}
	resp, err := c.Get("http://engine/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if want := fmt.Sprintf("%s uid %d", audit.Socket, os.Getuid()); err != nil || string(text) != want {
		t.Errorf("%q, %v; want %q", text, err, want)
	}
}
