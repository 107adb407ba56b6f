package aisle

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "aisle.dev/aisle"

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath, Name, Dir, Doc               string
	Imports, TestImports, XTestImports, Deps []string
}

var packages = sync.OnceValues(func() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Doc,Imports,TestImports,XTestImports,Deps", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.Join(err, errors.New(stderr.String()))
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, p)
	}
})

func listed(t *testing.T) []pkg {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// under reports whether an import path is the prefix or below it.
func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// TestImports keeps the parts apart. A rule holds for what is imported
// directly; a deep rule for everything that gets linked.
func TestImports(t *testing.T) {
	rules := []struct {
		from, banned string
		except       []string // importing packages for which the rule does not hold
		allowed      []string // imported packages that are allowed all the same
		deep         bool
		why          string
	}{
		{from: module, banned: "github.com/yalue/onnxruntime_go", except: []string{module + "/internal/onnx"},
			why: "internal/onnx alone owns tensors, sessions and their memory; a second importer would share its unlocked globals"},
		{from: module + "/internal", banned: module + "/activator",
			why: "internal is what functions and the activator share; knowing the activator would close a circle"},
		{from: module + "/functions", banned: module + "/activator",
			why: "a function runs where there is no activator of ours: on a real Knative"},
		{from: module + "/activator", banned: module + "/cmd", why: "the command line uses the activator, not the other way round"},
		{from: module + "/activator", banned: module + "/internal/onnx", why: "the activator starts models; it never loads one"},
		{from: module + "/internal", banned: "knative.dev/serving/pkg/autoscaler/scaling", why: "decisions of scale live in activator/scale"},
		{from: module + "/internal", banned: "knative.dev/serving/pkg/autoscaler/aggregation", why: "decisions of scale live in activator/scale"},
		{from: module, banned: "k8s.io/client-go", except: []string{module + "/internal/client/knative", module + "/internal/client/objects", module + "/activator/controller", module + "/activator/controller/controllertest"},
			why: "internal/client/objects alone speaks Kubernetes' protocol, and internal/client/knative reads kubeconfigs for it; a cluster's controller is made of client-go's informers"},
		{from: module, banned: "k8s.io/client-go/kubernetes", deep: true,
			// Knative Eventing's types link it; of the typed clients only their scheme is initialised, 3 ms.
			except: []string{module + "/activator", module + "/activator/controller", module + "/activator/controller/controllertest", module + "/activator/broker", module + "/activator/broker/ping", module + "/activator/engine", module + "/cmd/aisle", module + "/cmd/aisle/internal/cli", module + "/hack/bench", module + "/hack/chaos"},
			why:    "registering all of Kubernetes' types costs every command 8 ms at its start"},
		{from: module + "/activator", banned: module + "/internal/client/knative", why: "the engine knows of no cluster"},
		{from: module + "/functions", banned: "k8s.io", deep: true, why: "client-go's package initialisation alone costs more than a classifier's cold start"},
		{from: module + "/functions", banned: "knative.dev", deep: true, why: "a function needs Knative's contract, not its code"},
		{from: module + "/functions", banned: "sigs.k8s.io", allowed: []string{"sigs.k8s.io/yaml"}, deep: true, why: "a function needs no Kubernetes machinery; yaml is a parser"},
		{from: module + "/functions", banned: "google.golang.org/protobuf", deep: true,
			except: []string{module + "/functions/composer"}, // CEL is made of them: what it costs is decision 15 of ARCHITECTURE.md
			// The wire format's few kilobytes, and what they are made of.
			allowed: []string{"google.golang.org/protobuf/encoding/protowire", "google.golang.org/protobuf/internal/errors", "google.golang.org/protobuf/internal/detrand"},
			why:     "messages by reflection are a fifth of a function's bytes, which every new node pulls; internal/metrics writes the text format"},
		{from: module + "/functions/composer", banned: "github.com/yalue/onnxruntime_go", deep: true, why: "the composer starts in milliseconds because it loads no runtime"},
		{from: module + "/functions/composer", banned: module + "/internal/imaging", deep: false, why: "pictures are decoded where they are classified"},
		{from: module, banned: "github.com/robfig/cron/v3", deep: false, why: "abandoned: it panics on TZ=0 and skips jobs at daylight-saving changes"},
	}
	for _, p := range listed(t) {
		for _, r := range rules {
			if !under(p.ImportPath, r.from) || slices.Contains(r.except, p.ImportPath) {
				continue
			}
			imports := p.Imports
			if r.deep {
				imports = p.Deps
			}
			for _, im := range imports {
				if under(im, r.banned) && !slices.ContainsFunc(r.allowed, func(a string) bool { return under(im, a) }) {
					t.Errorf("%s imports %s: %s", p.ImportPath, im, r.why)
				}
			}
		}
	}
}

// TestPackageDocs wants each package to say what it is for.
func TestPackageDocs(t *testing.T) {
	for _, p := range listed(t) {
		if p.Doc == "" {
			t.Errorf("%s has no package comment: say its purpose, what it guarantees, and what it is not for", p.ImportPath)
		}
		for _, vague := range []string{"util", "utils", "common", "types", "helpers", "helper", "misc"} {
			if p.Name == vague {
				t.Errorf("%s: package name %q says nothing of the domain", p.ImportPath, vague)
			}
		}
	}
}

// TestNoSleepInTests: a test that sleeps is slow where it waits too long and
// fails where it waits too short.
func TestNoSleepInTests(t *testing.T) {
	fset := token.NewFileSet()
	for _, p := range listed(t) {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			bubble := slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` })
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if ok && sel.Sel.Name == "Sleep" && !bubble {
					if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
						t.Errorf("%s sleeps: wait on a condition, or use testing/synctest, where sleeping costs nothing", fset.Position(call.Pos()))
					}
				}
				return true
			})
		}
	}
}

// TestTrackedFiles: what is committed stays small and speaks of no machine.
func TestTrackedFiles(t *testing.T) {
	out, err := exec.Command("git", "ls-files", "-z").Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		info, err := os.Stat(name)
		if err != nil || info.IsDir() {
			continue // deleted in the working tree
		}
		if info.Size() > 9<<20 {
			t.Errorf("%s is %d bytes: the repository holds no file over 9 MiB", name, info.Size())
		}
		ext := filepath.Ext(name)
		if !slices.Contains([]string{".go", ".md", ".yaml", ".py", ".sh", ".csv", ".json", ".txt"}, ext) || filepath.Base(name) == "repo_test.go" {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"/" + "work/", "/" + "root/", "/home/" + "runner"} {
			if bytes.Contains(data, []byte(p)) {
				t.Errorf("%s names %s, a path of one machine", name, p)
			}
		}
	}
}

// TestDocsNameTests: a page that promises something names the test that shows
// it, and that test is there.
func TestDocsNameTests(t *testing.T) {
	there := map[string]bool{}
	for _, p := range listed(t) {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
				there[string(m[1])] = true
			}
		}
	}
	for _, page := range []string{"docs/one-machine.md", "docs/delivery.md", "docs/scaling.md", "docs/serving.md", "docs/models.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(text, -1)
		if len(named) == 0 {
			t.Errorf("%s names no test", page)
		}
		for _, m := range named {
			if name := string(m[1]); !there[name] {
				t.Errorf("%s names %s, which is not there", page, name)
			}
		}
	}
}
