package client

import (
	"fmt"
	"strings"
	"testing"
)

func TestEnds(t *testing.T) {
	var log ends
	for i := range 5000 {
		if _, err := fmt.Fprintf(&log, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.HasPrefix(string(log.first), "line 0\nline 1\n") || len(log.first) != BeginBytes {
		t.Errorf("it begins with %d bytes: %.20q", len(log.first), log.first)
	}
	if got := log.end(); !strings.HasPrefix(got, "line 4990\n") || !strings.HasSuffix(got, "\nline 4999") {
		t.Errorf("it ends with %q", got)
	}
	if len(log.last) > EndBytes {
		t.Errorf("%d bytes are kept", len(log.last))
	}
}

func TestModelOf(t *testing.T) {
	const classifier = `{"msg":"ready","model":"title","digest":"sha256:1"}`
	for log, want := range map[string]string{
		"x\n" + classifier + "\ny":                                     "sha256:1",
		`{"msg":"ready","composition":"products","digest":"sha256:2"}`: "",
		"not JSON": "",
		"":         "",
	} {
		if got := modelOf(log); got != want {
			t.Errorf("modelOf(%q) = %q, want %q", log, got, want)
		}
	}
}

// A name in two namespaces means the one that is told, or the first; what
// belongs to the other is not shown.
func TestPick(t *testing.T) {
	services := []Service{{Namespace: "a", Name: "title"}, {Namespace: "b", Name: "title"}}
	revisions := []Revision{{Namespace: "a", Name: "title-1", Service: "title"}, {Namespace: "b", Name: "title-1", Service: "title"}}
	pods := []Pod{{Namespace: "a", Name: "p", Service: "title", Revision: "title-1"}, {Namespace: "b", Name: "q", Service: "title", Revision: "title-1"}}
	for _, test := range []struct{ kind, namespace, name, wantNamespace, wantPod string }{
		{KindService, "", "title", "a", "p"},
		{KindService, "b", "title", "b", "q"},
		{KindRevision, "", "b/title-1", "b", "q"},
		{KindPod, "", "q", "b", "q"},
	} {
		d, err := Pick(test.kind, test.namespace, test.name, services, revisions, pods)
		if err != nil || d.Namespace != test.wantNamespace || len(d.Pods) != 1 || d.Pods[0].Name != test.wantPod || len(d.Revisions) != 1 || d.Revisions[0].Namespace != test.wantNamespace {
			t.Errorf("%+v: %+v, %v", test, d, err)
		}
	}
}
