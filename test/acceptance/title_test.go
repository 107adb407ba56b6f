package acceptance

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"aisle.dev/aisle/internal/ortlib"
	"aisle.dev/aisle/internal/prediction"
)

// The real classifier and the real model: from zero to an answer, to zero, and
// back.
func TestTitleClassifier(t *testing.T) {
	t.Parallel()
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root := newDataDir(t)
	repo, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(repo, "models"), filepath.Join(root, "models")); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(root, "bin")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, "classifier"), "../../functions/classifier")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the classifier: %v\n%s", err, out)
	}
	if err := ortlib.Install(lib, filepath.Join(bin, "libonnxruntime.so.1")); err != nil {
		t.Fatal(err)
	}
	e := newEngineAt(t, root, "", "testdata/title")
	c := call(t, e)
	for _, test := range []struct{ when, title, label string }{
		{"from zero", "Men Blue Running Shoes", "Sports Shoes"},
		{"warm", "Women Silver Wrist Watch", "Watches"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url("title", "/v1/classify"), jsonOf(t, map[string]string{"title": test.title}))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		a := c.send(req)
		a.want(t, http.StatusOK)
		var got prediction.Result
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Predictions) == 0 || got.Predictions[0].Label != test.label {
			t.Errorf("%s, %q: %+v, want %s first", test.when, test.title, got.Predictions, test.label)
		}
		if cold := a.wake() != ""; cold != (test.when == "from zero") {
			t.Errorf("%s: Server-Timing %q", test.when, a.header.Values("Server-Timing"))
		}
	}
	awaitNoPods(t, e, "title")
	if err := e.stop(patience); err != nil {
		t.Error(err)
	}
}
