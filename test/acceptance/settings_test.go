package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// isSet says which of Knative's settings among these objects a cluster of
// somebody else lacks: they are the owner's to change, and without them most
// tests would fail one by one.
func (c *cluster) isSet(ctx context.Context, objects []map[string]any) error {
	wanted := map[string]map[string]any{}
	for _, o := range objects {
		meta, _ := o["metadata"].(map[string]any)
		data, _ := o["data"].(map[string]any)
		if name, _ := meta["name"].(string); meta["namespace"] == "knative-serving" {
			wanted[name] = data // the later object takes the earlier one's place, as apply has it
		}
	}
	var patches []string
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		path, err := resource("ConfigMap", "knative-serving", name)
		if err != nil {
			return err
		}
		var is struct{ Data map[string]string }
		if err := c.ask(ctx, http.MethodGet, path, "", nil, &is); err != nil {
			return err
		}
		missing := map[string]any{}
		for key, value := range wanted[name] {
			if is.Data[key] != value {
				missing[key] = value
			}
		}
		if len(missing) > 0 {
			patch, err := json.Marshal(map[string]any{"data": missing})
			if err != nil {
				return err
			}
			patches = append(patches, fmt.Sprintf("kubectl patch configmap %s -n knative-serving --type merge -p '%s'", name, patch))
		}
	}
	if len(patches) > 0 {
		return fmt.Errorf("the suite needs settings that this cluster lacks, and changes none of somebody else's; do, and take back when it has ended:\n%s", strings.Join(patches, "\n"))
	}
	return nil
}

func TestSettingsOfAnotherCluster(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data":{"initial-scale":"0","stable-window":"60s"}}`)
	}))
	defer server.Close()
	c := &cluster{api: api{server: server.URL, http: server.Client()}}
	settings := func(window string) map[string]any {
		return map[string]any{
			"metadata": map[string]any{"name": "config-autoscaler", "namespace": "knative-serving"},
			"data":     map[string]any{"initial-scale": "0", "stable-window": window},
		}
	}
	if err := c.isSet(t.Context(), []map[string]any{settings("10s"), settings("60s")}); err != nil {
		t.Errorf("what is set is missed: %v", err)
	}
	err := c.isSet(t.Context(), []map[string]any{settings("10s")})
	if want := `kubectl patch configmap config-autoscaler -n knative-serving --type merge -p '{"data":{"stable-window":"10s"}}'`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}
