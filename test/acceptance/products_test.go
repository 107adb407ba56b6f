package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/ortlib"
	"aisle.dev/aisle/internal/prediction"
)

// products is the place where Aisle itself runs: the shipped manifests with
// the real functions and models (and on one machine testdata/products beside
// them). On a cluster it is a namespace; here it is an engine of its own, started
// by the first test that wants it.
var products productsPlace

type productsPlace struct {
	once  sync.Once
	place place
	err   error
}

func (p *productsPlace) get(t *testing.T) place {
	t.Helper()
	p.once.Do(func() {
		if c := shared.onCluster(); c != nil {
			p.place = c.in(productsNamespace)
			return
		}
		var e *engineProcess
		if e, p.err = startProducts(context.Background(), filepath.Join(shared.root, "products")); p.err == nil {
			p.place = e
		}
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.place
}

// stop ends an engine that was started for this.
func (p *productsPlace) stop() {
	if p.place == nil || p.place.engine() == nil {
		return
	}
	if err := p.place.stop(patience); err != nil {
		fmt.Fprintln(os.Stderr, "the products' engine:", err)
		p.place.dump(os.Stderr)
	}
}

func startProducts(ctx context.Context, root string) (*engineProcess, error) {
	repo, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	lib, err := ortlib.Find(ctx)
	if err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(root, "bin")+"/", "./functions/classifier", "./functions/composer", "./test/acceptance/fixture")
	build.Dir = repo
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the functions: %w\n%s", err, out)
	}
	if err := errors.Join(
		ortlib.Install(lib, filepath.Join(root, "bin", "libonnxruntime.so.1")),
		os.Symlink(filepath.Join(repo, "models"), filepath.Join(root, "models")),
	); err != nil {
		return nil, err
	}
	// The manifests say at which port the engine is; this one has another.
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	at := fmt.Sprintf("localhost:%d", port)
	for from, to := range map[string]string{"../../manifests": "manifests", "testdata/products": "products"} {
		if err := copied(from, filepath.Join(root, "m", to), strings.NewReplacer("localhost:8080", at, "svc.cluster.local", at)); err != nil {
			return nil, err
		}
	}
	all := "resources: [manifests/overlays/local, products]\n"
	if err := os.WriteFile(filepath.Join(root, "m", "kustomization.yaml"), []byte(all), 0o600); err != nil {
		return nil, err
	}
	return startEngineOn(fmt.Sprintf("127.0.0.1:%d", port), root, filepath.Join(root, "data"), filepath.Join(root, "m"))
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// copied copies a folder of text with replacements.
func copied(from, to string, replace *strings.Replacer) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, below), 0o700)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, below), []byte(replace.Replace(string(text))), 0o600)
	})
}

// post sends JSON, with a cold start's time to answer.
func (c *caller) post(t *testing.T, service, path, contentType, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url(service, path), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	return c.send(req)
}

// The real classifier and the real model, from zero and warm.
func TestTitleClassifier(t *testing.T) {
	t.Parallel()
	p := products.get(t)
	c := call(t, p)
	for _, test := range []struct{ when, title, label string }{
		{"from zero", "Men Blue Running Shoes", "Sports Shoes"},
		{"warm", "Women Silver Wrist Watch", "Watches"},
	} {
		text, err := json.Marshal(map[string]string{"title": test.title})
		if err != nil {
			t.Fatal(err)
		}
		a := c.post(t, "title", "/v1/classify", "application/json", string(text))
		a.want(t, http.StatusOK)
		var got prediction.Result
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Predictions) == 0 || got.Predictions[0].Label != test.label {
			t.Errorf("%s, %q: %+v, want %s first", test.when, test.title, got.Predictions, test.label)
		}
	}
}

// A product event to the composer, through its legs from zero, and the category
// event in answer; then the composer's and a classifier's own metrics.
func TestComposer(t *testing.T) {
	t.Parallel()
	c := call(t, products.get(t))
	structured := `{"specversion":"1.0","id":"e1","source":"/acceptance","type":"` + event.TypeProduct + `","subject":"p1","datacontenttype":"application/json",` +
		`"data":{"id":"p1","title":"Women Silver Wrist Watch"}}`
	var a answer
	await(t, "the composer to answer with all that the product has", func() string {
		a = c.post(t, "composer", "/", event.ContentType, structured)
		if a.err != nil || a.status != http.StatusOK || !strings.Contains(a.body, `"complete"`) {
			return fmt.Sprintf("%+v", a) // on a busy machine the first may come later than the composition's deadline
		}
		return ""
	})
	ev, isStructured, err := event.Decode(a.header, []byte(a.body))
	if err != nil || !isStructured || ev.Type() != event.TypeCategory || ev.Subject() != "p1" {
		t.Fatalf("answered with the event %v, structured %v, %v", ev, isStructured, err)
	}
	var got category.Result
	if err := json.Unmarshal(ev.Data(), &got); err != nil {
		t.Fatal(err)
	}
	if got.ID != "p1" || got.Category == nil || got.Category.Label != "Watches" || len(got.Legs) != 2 {
		t.Errorf("answered %+v", got)
	}
	if text := c.get(t, "title", "/v2").body; !strings.Contains(text, `"name":"aisle"`) || strings.Contains(text, `"version":""`) {
		t.Errorf("the Open Inference Protocol's server is %s", text)
	}
	for service, want := range map[string][]string{
		"composer": {`aisle_composer_products_total{status="complete"}`, `aisle_composer_leg_requests_total{`, "aisle_composer_in_flight"},
		"title":    {`model_info{`, `requests_total{code="200",route="classify"}`},
	} {
		text := c.get(t, service, "/metrics").body
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("metrics of %s have no %s", service, w)
			}
		}
	}
}

// A leg that fails makes the answer partial, and the answer says which and why.
func TestFailedLeg(t *testing.T) {
	t.Parallel()
	p := products.get(t)
	if k := shared.onCluster(); k != nil {
		p = k // its pods are not as restricted as the shipped ones must be
	}
	c := call(t, p)
	var got category.Result
	await(t, "a partial answer", func() string {
		got = category.Result{}
		a := c.post(t, "partial", "/category/predict", "application/json", `{"id":"p2","title":"Women Silver Wrist Watch"}`)
		if a.err != nil || a.status != http.StatusOK || json.Unmarshal([]byte(a.body), &got) != nil || got.Status != category.Partial {
			return fmt.Sprintf("%+v", a)
		}
		return ""
	})
	if got.Category == nil || got.Category.Label != "Watches" || len(got.Legs) != 2 ||
		got.Legs[0].Outcome != category.Answered || got.Legs[1].Outcome != category.LegFailed || got.Legs[1].Reason == "" {
		t.Errorf("answered %+v", got)
	}
}
