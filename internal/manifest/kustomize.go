package manifest

import (
	"fmt"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

// building is held while kustomize builds: its schema is a global.
var building sync.Mutex

// build runs kustomize on dir, a path in the tree, after survey has found
// nothing there that would make it reach beyond the tree.
func (t *tree) build(f *findings, dir string) resmap.ResMap {
	t.survey(f, dir, nil)
	if len(f.problems) > 0 {
		return nil
	}
	building.Lock()
	defer building.Unlock()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(t, dir)
	if t.refused != nil {
		err = t.refused
	}
	if err != nil {
		f.refuse("", "", "%s", plain(err))
		return nil
	}
	return built
}

// kustomize tries a file and then a folder of that name, and tells of both.
var asFolder = regexp.MustCompile(`accumulating resources: accumulation err='(.*)': must build at directory: .*`)

// plain puts an error on one line, less what kustomize wraps around it.
func plain(err error) string {
	return asFolder.ReplaceAllString(strings.Join(strings.Fields(err.Error()), " "), "$1")
}

var kustomizationNames = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

// survey reads a kustomization and those it builds on, before kustomize does:
// kustomize would fetch an entry that is no file, and says little of a cycle.
func (t *tree) survey(f *findings, dir string, above []string) {
	object := strings.TrimPrefix(dir, "/")
	if object == "" {
		object = "."
	}
	if i := slices.Index(above, dir); i >= 0 {
		f.refuse(object, "", "kustomizations build on each other in a circle: %s", strings.ReplaceAll(strings.Join(append(above[i:], dir), " -> "), " /", " "))
		return
	}
	if len(above) >= maxDepth {
		f.refuse(object, "", "more than %d kustomizations build on each other", maxDepth)
		return
	}
	if !t.IsDir(dir) {
		f.refuse(object, "", "no such folder")
		return
	}
	var file string
	for _, name := range kustomizationNames {
		if !t.Exists(path.Join(dir, name)) {
			continue
		}
		if file != "" {
			f.refuse(object, "", "has both %s and %s", file, name)
			return
		}
		file = name
	}
	if file == "" {
		f.refuse(object, "", "has no kustomization.yaml; name a folder that has one")
		return
	}
	object = path.Join(object, file)
	k, ok := t.kustomization(f, object)
	if !ok {
		return
	}
	s := surveyor{tree: t, findings: f, object: object, dir: dir, above: append(slices.Clip(above), dir)}
	s.check(k)
}

func (t *tree) kustomization(f *findings, file string) (*types.Kustomization, bool) {
	data, err := t.readYAML(file)
	if err != nil {
		f.refuse(file, "", "%s", plain(err))
		return nil, false
	}
	var raw any
	if err := yaml.Unmarshal(data, &raw); err != nil {
		f.refuse(file, "", "%s", plain(err))
		return nil, false
	}
	before := len(f.problems)
	checkShape(f, file, "", raw, reflect.TypeFor[types.Kustomization]())
	if len(f.problems) > before {
		return nil, false
	}
	k := new(types.Kustomization)
	if err := yaml.Unmarshal(data, k); err != nil {
		f.refuse(file, "", "%s", plain(err))
		return nil, false
	}
	return k, true
}

// surveyor checks what one kustomization names.
type surveyor struct {
	tree     *tree
	findings *findings
	object   string // its file
	dir      string
	above    []string
}

func (s surveyor) check(k *types.Kustomization) {
	const noPlugins = "plug-ins are not run here"
	for _, p := range []struct {
		path string
		set  bool
	}{
		{"generators", len(k.Generators) > 0},
		{"transformers", len(k.Transformers) > 0},
		{"validators", len(k.Validators) > 0},
		{"helmCharts", len(k.HelmCharts) > 0},
		{"helmGlobals", k.HelmGlobals != nil},
		{"helmChartInflationGenerator", len(k.HelmChartInflationGenerator) > 0},
	} {
		if p.set {
			s.findings.refuse(s.object, p.path, noPlugins)
		}
	}
	s.entries("resources", k.Resources)
	//lint:ignore SA1019 kustomize still honours it, so it is surveyed like the rest
	s.entries("bases", k.Bases)
	s.entries("components", k.Components)
	for i, name := range k.Crds {
		s.yaml(fmt.Sprintf("crds[%d]", i), name)
	}
	for i, name := range k.Configurations {
		s.yaml(fmt.Sprintf("configurations[%d]", i), name)
	}
	s.yaml("openapi.path", k.OpenAPI["path"])
	//lint:ignore SA1019 kustomize still honours it, so it is surveyed like the rest
	for i, p := range k.PatchesStrategicMerge {
		field := fmt.Sprintf("patchesStrategicMerge[%d]", i)
		if strings.Contains(string(p), "\n") {
			s.inline(field, string(p))
		} else {
			s.yaml(field, string(p))
		}
	}
	s.patches("patches", k.Patches)
	//lint:ignore SA1019 kustomize still honours it, so it is surveyed like the rest
	s.patches("patchesJson6902", k.PatchesJson6902)
	for i, r := range k.Replacements {
		s.yaml(fmt.Sprintf("replacements[%d].path", i), r.Path)
	}
	for i, g := range k.ConfigMapGenerator {
		s.pairs(fmt.Sprintf("configMapGenerator[%d]", i), g.KvPairSources)
	}
	for i, g := range k.SecretGenerator {
		s.pairs(fmt.Sprintf("secretGenerator[%d]", i), g.KvPairSources)
	}
}

func (s surveyor) patches(field string, list []types.Patch) {
	for i, p := range list {
		s.yaml(fmt.Sprintf("%s[%d].path", field, i), p.Path)
		s.inline(fmt.Sprintf("%s[%d].patch", field, i), p.Patch)
	}
}

func (s surveyor) pairs(field string, p types.KvPairSources) {
	for i, name := range p.FileSources {
		if _, after, ok := strings.Cut(name, "="); ok {
			name = after
		}
		s.file(fmt.Sprintf("%s.files[%d]", field, i), name)
	}
	for i, name := range p.EnvSources {
		s.file(fmt.Sprintf("%s.envs[%d]", field, i), name)
	}
	if p.EnvSource != "" {
		s.file(field+".env", p.EnvSource)
	}
}

// inline checks YAML that is written in the kustomization itself.
func (s surveyor) inline(field, text string) {
	if _, err := inspectYAML([]byte(text)); err != nil {
		s.findings.refuse(s.object, field, "%s", plain(err))
	}
}

// yaml checks a file of YAML; an empty name is none.
func (s surveyor) yaml(field, name string) {
	if name == "" {
		return
	}
	at, ok := s.resolve(field, name)
	if !ok {
		return
	}
	if _, err := s.tree.readYAML(at); err != nil {
		s.findings.refuse(s.object, field, "%s", plain(err))
	}
}

// file checks a file whose content is data.
func (s surveyor) file(field, name string) {
	at, ok := s.resolve(field, name)
	if !ok {
		return
	}
	if _, err := s.tree.ReadFile(at); err != nil {
		s.findings.refuse(s.object, field, "%s", plain(err))
	}
}

// entries are files or folders with a kustomization of their own.
func (s surveyor) entries(field string, names []string) {
	for i, name := range names {
		at, ok := s.resolve(fmt.Sprintf("%s[%d]", field, i), name)
		switch {
		case !ok:
		case s.tree.IsDir(at):
			s.tree.survey(s.findings, at, s.above)
		default:
			s.yaml(fmt.Sprintf("%s[%d]", field, i), name)
		}
	}
}

// resolve gives the path of a name in the tree, or says why there is none.
func (s surveyor) resolve(field, name string) (string, bool) {
	switch {
	case isRemote(name):
		s.findings.refuse(s.object, field, "%q is not on this machine, and nothing is fetched: copy it into the project and name the copy", name)
	case path.IsAbs(name):
		s.findings.refuse(s.object, field, "%q is absolute; write it relative to this file", name)
	case climbs(s.dir, name):
		s.findings.refuse(s.object, field, "%q is outside of what may be read: start from a folder that holds both", name)
	case !s.tree.Exists(path.Join(s.dir, name)):
		s.findings.refuse(s.object, field, "%q does not exist", name)
	default:
		return path.Join(s.dir, name), true
	}
	return "", false
}

// isRemote is true for everything that kustomize would take for a URL or a
// repository, and for a little more.
func isRemote(name string) bool {
	lower := strings.ToLower(name)
	return strings.ContainsAny(name, "@?") || strings.Contains(name, "://") || strings.Contains(name, "::") ||
		strings.HasPrefix(lower, "github.com") || strings.HasPrefix(lower, "www.github.com")
}

// climbs is true where name leads from dir to above the tree's root.
func climbs(dir, name string) bool {
	rel := path.Join(local(dir), name)
	return rel == ".." || strings.HasPrefix(rel, "../")
}
