package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/objects"
	"aisle.dev/aisle/internal/composition"
)

// compositionsNamed is whether get is asked for compositions, which are no
// objects but files in ConfigMaps.
func compositionsNamed(kind string) bool {
	switch strings.ToLower(kind) {
	case "compositions", "composition", "comp":
		return true
	}
	return false
}

// compositionFile is the composition of a composer as its ConfigMap has it.
type compositionFile struct {
	files     map[string][]byte
	key       string
	namespace string // of legs that name none
}

func (f *compositionFile) parse() (*composition.Composition, error) {
	return composition.ParseIn(f.files, f.key)
}

// compositionOf finds the composition of a composer in the ConfigMap that it
// mounts; nil when the service is no composer, or has its composition from
// elsewhere.
func compositionOf(ctx context.Context, p place, s *servingv1.Service) (*compositionFile, error) {
	spec := s.Spec.Template.Spec.PodSpec
	found := &compositionFile{namespace: "default"} // as the composer has it
	for _, c := range spec.Containers {
		file := ""
		for _, e := range c.Env {
			switch e.Name {
			case "COMPOSITION":
				file = e.Value
			case "NAMESPACE":
				found.namespace = e.Value
			}
		}
		for _, m := range c.VolumeMounts {
			key, below := strings.CutPrefix(file, strings.TrimSuffix(m.MountPath, "/")+"/")
			i := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name && v.ConfigMap != nil })
			if !below || i < 0 {
				continue
			}
			source := spec.Volumes[i].ConfigMap
			from, err := objects.Get[corev1.ConfigMap](ctx, p.Objects(), objects.ConfigMap, s.Namespace, source.Name)
			if err != nil {
				return nil, err
			}
			all := map[string][]byte{}
			for name, text := range from.Data {
				all[name] = []byte(text)
			}
			for name, data := range from.BinaryData {
				all[name] = data
			}
			if found.files, found.key = all, key; len(source.Items) > 0 {
				found.files = map[string][]byte{}
				for _, item := range source.Items {
					found.files[path.Clean(item.Path)] = all[item.Key]
				}
			}
			return found, nil
		}
	}
	return nil, nil
}

// compositionView is a composition as get and validate tell of it.
type compositionView struct {
	Namespace string               `json:"namespace,omitempty"`
	Service   string               `json:"service,omitempty"` // the composer
	File      string               `json:"file,omitempty"`
	Name      string               `json:"name,omitempty"`
	Legs      []string             `json:"legs,omitempty"`
	Reducer   string               `json:"reducer,omitempty"`
	Digest    string               `json:"digest,omitempty"`
	Valid     bool                 `json:"valid"`
	Problems  composition.Problems `json:"problems,omitempty"`
	Running   *runningComposition  `json:"running,omitempty"` // absent: no composer is awake, or none that can be asked
}

// runningComposition is what a composer says that is awake.
type runningComposition struct {
	Digest string `json:"digest"`
	Broken string `json:"broken,omitempty"` // what the composer finds wrong with its file
}

func (v *compositionView) describe(c *composition.Composition) {
	v.Name, v.Digest, v.Reducer = c.Name, c.Digest, c.Fusion.Type
	for _, l := range c.Legs {
		name := l.Name
		switch {
		case l.Shadow:
			name += " (shadow)"
		case l.When != nil:
			name += " (gated)"
		}
		v.Legs = append(v.Legs, name)
	}
}

// status says in a line how the composition is, the first problem for all.
func (v *compositionView) status() screen.Cell {
	switch {
	case len(v.Problems) > 1:
		return screen.Cell{Text: fmt.Sprintf("invalid: %v (and %d more)", v.Problems[0], len(v.Problems)-1), Colour: screen.Red}
	case len(v.Problems) == 1:
		return screen.Cell{Text: fmt.Sprintf("invalid: %v", v.Problems[0]), Colour: screen.Red}
	case v.Running != nil && v.Running.Broken != "":
		return screen.Cell{Text: "its composer refuses it: " + v.Running.Broken, Colour: screen.Red}
	case v.Running != nil && v.Running.Digest != v.Digest:
		return screen.Cell{Text: "valid, not taken over yet", Colour: screen.Yellow}
	}
	return screen.Cell{Text: "valid", Colour: screen.Green}
}

var compositionColumns = left("COMPOSER", "NAME", "LEGS", "REDUCER", "DIGEST", "RUNNING", "STATUS")

// getCompositions shows the compositions of the composers at a place. It wakes
// none: one that is awake is asked at its pod.
func (a *app) getCompositions(ctx context.Context, g getting, names []string) error {
	if g.watch {
		return usagef("compositions cannot be watched; ask again, or follow their ConfigMaps: aisle get configmaps --watch")
	}
	p, err := a.place()
	if err != nil {
		return err
	}
	all, err := a.compositions(ctx, p, g.selector)
	if err != nil {
		return err
	}
	var errs []error
	if len(names) > 0 {
		some := []compositionView{}
		for _, name := range names {
			i := slices.IndexFunc(all, func(v compositionView) bool { return v.Service == name || v.Name == name })
			if i < 0 {
				errs = append(errs, fmt.Errorf("there is no composition %s, and no composer of that name; use: aisle get compositions", name))
				continue
			}
			some = append(some, all[i])
		}
		all = some
	}
	switch {
	case g.format == "name":
		for _, v := range all {
			a.out.Printf("composition/%s\n", v.Service)
		}
	case !g.table():
		err = writeAs(a.out, g.format, all)
	case len(all) == 0 && len(errs) == 0:
		a.out.Printf("no composer has its composition in a ConfigMap%s\n", a.where(p))
	case len(all) > 0:
		columns, rows := known(compositionColumns, compositionRows(all, g.format == "wide"))
		screen.Write(a.out, columns, rows)
	}
	return errors.Join(append(errs, err)...)
}

func compositionRows(all []compositionView, wide bool) [][]screen.Cell {
	digest := func(text string) screen.Cell {
		if text == "" {
			return unknown
		}
		if hex, ok := strings.CutPrefix(text, "sha256:"); ok && !wide {
			text = hex[:min(12, len(hex))]
		}
		return screen.Cell{Text: text}
	}
	cell := func(text string) screen.Cell {
		if text == "" {
			return unknown
		}
		return screen.Cell{Text: text}
	}
	var rows [][]screen.Cell
	for _, v := range all {
		running := unknown
		if v.Running != nil {
			running = digest(v.Running.Digest)
		}
		rows = append(rows, []screen.Cell{{Text: v.Service, Colour: screen.Bold}, cell(v.Name), cell(strings.Join(v.Legs, ", ")), cell(v.Reducer), digest(v.Digest), running, v.status()})
	}
	return rows
}

// compositions are those of the composers at a place, as their ConfigMaps have
// them now.
func (a *app) compositions(ctx context.Context, p place, selector string) ([]compositionView, error) {
	everything, _, err := objects.List[*servingv1.Service](ctx, p.Objects(), objects.Service, a.listed(p), "")
	if err != nil {
		return nil, err
	}
	services := everything
	if selector != "" {
		if services, _, err = objects.List[*servingv1.Service](ctx, p.Objects(), objects.Service, a.listed(p), selector); err != nil {
			return nil, err
		}
	}
	var listed []string // namespaces of which all services are known
	for _, s := range everything {
		listed = append(listed, s.Namespace)
	}
	out := []compositionView{}
	for _, s := range services {
		file, err := compositionOf(ctx, p, s)
		if file == nil && err == nil {
			continue
		}
		v := compositionView{Namespace: s.Namespace, Service: s.Name}
		var c *composition.Composition
		if err == nil {
			c, err = file.parse()
		}
		switch {
		case c != nil:
			v.describe(c)
			for _, text := range absentServices(c, file.namespace, servicesOf(everything), listed) {
				v.Problems = append(v.Problems, &composition.Problem{Text: text})
			}
		case !errors.As(err, &v.Problems):
			v.Problems = composition.Problems{{Text: err.Error()}}
		}
		v.Valid = len(v.Problems) == 0
		out = append(out, v)
	}
	return out, a.askRunning(ctx, p, out)
}

// askRunning asks the composers that are awake what they run, each at a pod: a
// request to the service could wake it. The pods of a cluster, and of an engine
// elsewhere, cannot be reached from here.
func (a *app) askRunning(ctx context.Context, p place, all []compositionView) error {
	if _, engine := p.(*client.Engine); !engine || a.remote() != "" || len(all) == 0 {
		return nil
	}
	pods, err := p.Pods(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		v := &all[i]
		for _, pod := range pods {
			if pod.Namespace == v.Namespace && pod.Service == v.Service && pod.Phase == "Ready" {
				v.Running = askComposer(ctx, pod.Address)
				break
			}
		}
	}
	return nil
}

// askComposer asks a composer's pod what it runs; nil when it does not say.
func askComposer(ctx context.Context, address string) *runningComposition {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return nil
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var about struct {
		Composition struct{ Digest string }
		Broken      string
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&about); err != nil || about.Composition.Digest == "" {
		return nil
	}
	return &runningComposition{about.Composition.Digest, about.Broken}
}
