package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"aisle.dev/aisle/cmd/aisle/internal/composertest"
	"aisle.dev/aisle/cmd/aisle/internal/stored"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/knative/knativetest"
)

var update = flag.Bool("update", false, "write the scripts' goldens anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"aisle": main, "hello": hello})
}

// hello is a service for a real engine: it answers every request, or with
// BROKEN set ends with exit code 3.
func hello() {
	fmt.Println("hello begins")
	if os.Getenv("BROKEN") != "" {
		fmt.Println("there is nothing to greet with")
		os.Exit(3)
	}
	err := http.ListenAndServe(net.JoinHostPort("127.0.0.1", os.Getenv("PORT")), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "hello")
	}))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestScripts runs the command line against a composer and an engine that
// speak the real protocols. $COMPOSER is the composer's URL, $STATE the
// engine's data directory, $NOWHERE the URL and $FREE the host:port of an address
// where nothing listens. $KUBECONFIG
// has the context test of a cluster whose composer is at
// http://composer.cluster.test, reached at $GATEWAY; stranger, who may do nothing
// there; empty, of a cluster without Knative; gone, of one that does not answer.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"arrived":  arrived,
			"bytes":    writeBytes,
			"huge":     writeHuge,
			"serving":  serving,
			"mapped":   mapped,
			"until":    until,
			"heureka":  writeHeureka,
			"answered": answered,
		},
		Condition: func(cond string) (bool, error) {
			if cond != "built" {
				return false, fmt.Errorf("unknown condition %s", cond)
			}
			for _, name := range []string{"bin/classifier", "bin/composer", "bin/libonnxruntime.so.1", "models/title/model.yaml", "models/photo/model.yaml"} {
				if _, err := os.Stat(filepath.Join("..", "..", name)); err != nil {
					return false, nil
				}
			}
			return true, nil
		},
	})
}

type composerKey struct{}

func setup(env *testscript.Env) error {
	done := make(chan struct{})
	composer := &composertest.Composer{Done: done}
	srv := httptest.NewServer(composer)
	env.Defer(srv.Close)
	env.Defer(func() { close(done) })
	env.Values[composerKey{}] = composer
	u, err := url.Parse(srv.URL)
	if err != nil {
		return err
	}
	// Unix sockets have short names.
	state, err := os.MkdirTemp("", "aisle")
	if err != nil {
		return err
	}
	env.Defer(func() { _ = os.RemoveAll(state) })
	if err := serveEngine(env, filepath.Join(state, client.SocketName), u.Host); err != nil {
		return err
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return err
	}
	env.Setenv("ROOT", root)
	env.Setenv("REALSTATE", filepath.Join(state, "real"))
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	nowhere := "http://" + closed.Addr().String()
	env.Setenv("NOWHERE", nowhere)
	env.Setenv("FREE", closed.Addr().String())
	_ = closed.Close() // now nothing listens there
	env.Setenv("COMPOSER", srv.URL)
	env.Setenv("STATE", state)
	env.Setenv("AISLE_DATA_DIR", filepath.Join(env.WorkDir, "none"))
	env.Setenv("GATEWAY", u.Host)
	env.Setenv("TZ", "UTC")
	return serveCluster(env, nowhere)
}

// serveCluster answers as API servers do, and writes kubeconfigs for them.
func serveCluster(env *testscript.Env, nowhere string) error {
	s := &knativetest.Server{Token: "secret", Reconcile: reconcile, Managed: map[string]string{"shared": "kubectl"}}
	s.Sample("http://composer.cluster.test")
	api := httptest.NewTLSServer(s)
	env.Defer(api.Close)
	empty := httptest.NewServer(&knativetest.Server{NoKnative: true})
	env.Defer(empty.Close)
	var files []string
	for _, c := range []struct {
		context, server string
		certificate     *x509.Certificate
	}{{"test", api.URL, api.Certificate()}, {"empty", empty.URL, nil}, {"gone", nowhere, nil}} {
		// Files are merged by the names of clusters, users and contexts.
		text := strings.NewReplacer(`"test"`, `"`+c.context+`"`, `"c"`, `"`+c.context+`"`, `"tester"`, `"`+c.context+`"`).
			Replace(string(knativetest.Kubeconfig(c.server, c.certificate, "secret")))
		file := filepath.Join(env.WorkDir, c.context+".kubeconfig")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		files = append(files, file)
	}
	env.Setenv("KUBECONFIG", strings.Join(files, string(filepath.ListSeparator)))
	return nil
}

// exits N aisle ...: runs aisle and wants the exit code N.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE command...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		var ok bool
		if code, ok = strings.CutPrefix(err.Error(), "exit status "); !ok {
			ts.Fatalf("%v", err)
		}
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// arrived N: waits until the composer has been asked N times.
func arrived(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[0])
	if neg || err != nil {
		ts.Fatalf("usage: arrived N")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	select {
	case <-ts.Value(composerKey{}).(*composertest.Composer).Arrived(n):
	case <-ctx.Done():
		ts.Fatalf("%d requests have not arrived", n)
	}
}

// serving: waits until the engine of $AISLE_DATA_DIR answers, and sets $PORT.
func serving(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: serving")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	engine := client.NewEngine(ts.Getenv("AISLE_DATA_DIR"))
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		v, err := engine.Version(ctx)
		if err == nil {
			_, port, err := net.SplitHostPort(v.Address)
			ts.Check(err)
			ts.Setenv("PORT", port)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("no engine answers: %v", err)
		}
	}
}

// until REGEXP aisle ...: runs aisle until what it prints matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP command...")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		cmd := exec.CommandContext(ctx, args[1], args[2:]...)
		cmd.Dir, cmd.Env = ts.MkAbs("."), append(os.Environ(), "AISLE_DATA_DIR="+ts.Getenv("AISLE_DATA_DIR"))
		out, err := cmd.CombinedOutput()
		if want.Match(out) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("%v, at last %s", err, out)
		}
	}
}

// mapped FILE: writes an image map whose image hello is the command hello.
func mapped(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mapped FILE")
	}
	path, err := exec.LookPath("hello")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), fmt.Appendf(nil, "{apiVersion: aisle.dev/v1alpha1, kind: ImageMap, images: [{image: \"hello:1\", command: [%q]}]}\n", path), 0o600))
}

// bytes FILE TEXT: writes text with Go's escapes, which a script cannot hold.
func writeBytes(ts *testscript.TestScript, neg bool, args []string) {
	text, err := strconv.Unquote(`"` + args[1] + `"`)
	if neg || err != nil {
		ts.Fatalf("usage: bytes FILE TEXT: %v", err)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// huge FILE: writes two products, of which the first has a title of 1 MB.
func writeHuge(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: huge FILE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte("title\n"+strings.Repeat("x", 1<<20)+"\nA shirt\n"), 0o600))
}

// heureka N FILE: writes a feed of N items as Heureka has them, with everything
// that its reader takes; every 10,000th has no title.
func writeHeureka(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: heureka N FILE")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	titles := []string{"Pánské tričko &amp; T-shirt", "Women Silver Wrist Watch", "<![CDATA[Black <b>Leather</b> Wallet]]>", "Blue Running Shoes", "Denim Jeans &#353;ed&#233;"}
	file, err := os.Create(ts.MkAbs(args[1]))
	ts.Check(err)
	w := bufio.NewWriter(file)
	fmt.Fprint(w, xml.Header, "<SHOP>\n")
	for i := 1; i <= n; i++ {
		title := fmt.Sprintf("<PRODUCTNAME>%s %d</PRODUCTNAME>", titles[i%len(titles)], i)
		if i%10_000 == 0 {
			title = ""
		}
		fmt.Fprintf(w, "<SHOPITEM><ITEM_ID>%d</ITEM_ID>%s<CATEGORYTEXT>Móda | Oblečení</CATEGORYTEXT><EAN>%013d</EAN><PARAM><PARAM_NAME>gender</PARAM_NAME><VAL>Men</VAL></PARAM></SHOPITEM>\n", i, title, i)
	}
	fmt.Fprint(w, "</SHOP>\n")
	ts.Check(errors.Join(w.Flush(), file.Close()))
}

// answered N EXTRA FILE: the file has a category event of each of N products, and
// of at most EXTRA of them another one.
func answered(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: answered N EXTRA FILE")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	extra, err := strconv.Atoi(args[1])
	ts.Check(err)
	file, err := os.Open(ts.MkAbs(args[2]))
	ts.Check(err)
	defer file.Close()
	seen, lines := map[string]bool{}, 0
	ts.Check(stored.Read(file, args[2], func(a stored.Answer) error {
		lines++
		seen[a.ID] = true
		return nil
	}))
	if len(seen) != n || lines > n+extra {
		ts.Fatalf("%d lines about %d products: want %d, and at most %d of them twice", lines, len(seen), n, extra)
	}
}
