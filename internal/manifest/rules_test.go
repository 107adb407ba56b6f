package manifest

import (
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/serving/pkg/apis/config"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	asconfig "knative.dev/serving/pkg/autoscaler/config"
	"knative.dev/serving/pkg/autoscaler/config/autoscalerconfig"
)

// Every field of a Service has a rule, and every rule a field: a new version of
// Knative or Kubernetes cannot add a field that is silently dropped.
func TestEveryFieldHasARule(t *testing.T) {
	met := map[string]bool{}
	var walk func(path string, typ reflect.Type)
	walk = func(path string, typ reflect.Type) {
		for typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if typ.Kind() == reflect.Slice {
			path, typ = path+"[]", typ.Elem()
			r, ok := rules[path]
			if !ok || r.verdict != within {
				t.Errorf("%s has no rule that leads into it", path)
				return
			}
			met[path] = true
		}
		if typ.Kind() != reflect.Struct {
			t.Errorf("%s is a %v: honour, ignore or refuse it as a whole", path, typ)
			return
		}
		for name, ft := range jsonFields(typ) {
			at := join(path, name)
			r, ok := rules[at]
			met[at] = true
			switch {
			case !ok:
				t.Errorf("%s (%v) has no rule: honour it, or ignore or refuse it with a reason", at, ft)
			case r.verdict == within:
				walk(at, ft)
			case r.verdict != honour && r.reason == "":
				t.Errorf("%s: no reason", at)
			}
		}
	}
	walk("", reflect.TypeFor[servingv1.Service]())
	for path := range rules {
		if !met[path] {
			t.Errorf("the rule for %s is for no field", path)
		}
	}
}

// What a rule honours as a whole must have no parts that nobody reads.
func TestHonouredWholesHaveNoUnreadParts(t *testing.T) {
	for _, c := range []struct {
		typ  reflect.Type
		read string
	}{
		{reflect.TypeFor[corev1.ConfigMapKeySelector](), "name key optional"},
		{reflect.TypeFor[corev1.ConfigMapEnvSource](), "name optional"},
		{reflect.TypeFor[corev1.SecretKeySelector](), "name key optional"},
		{reflect.TypeFor[corev1.SecretEnvSource](), "name optional"},
		{reflect.TypeFor[corev1.ObjectFieldSelector](), "apiVersion fieldPath"},
		{reflect.TypeFor[corev1.HTTPHeader](), "name value"},
	} {
		read := strings.Fields(c.read)
		fields := jsonFields(c.typ)
		if len(fields) != len(read) {
			t.Errorf("%v has fields %v, of which %v are read", c.typ, fields, read)
		}
		for _, name := range read {
			if _, ok := fields[name]; !ok {
				t.Errorf("%v has no field %s", c.typ, name)
			}
		}
	}
}

// Each honoured setting of config-autoscaler sets a field of Knative's
// configuration, and together they set all of them: none is missing here.
func TestAutoscalerSettingsAreComplete(t *testing.T) {
	known := configKeys[asconfig.ConfigName]
	plain, err := asconfig.NewConfigFromMap(nil)
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	for key := range known {
		found := false
		for _, value := range []string{"hpa.autoscaling.knative.dev", "true", "false", "3", "30", "150", "13s"} {
			data := map[string]string{key: value}
			if key == "initial-scale" || key == "max-scale-limit" {
				data["max-scale"] = "3"
			}
			got, err := asconfig.NewConfigFromMap(data)
			if err != nil {
				continue
			}
			for sf := range reflect.TypeFor[autoscalerconfig.Config]().Fields() {
				if key != "max-scale" && sf.Name == "MaxScale" {
					continue
				}
				if reflect.ValueOf(*got).FieldByIndex(sf.Index).Interface() != reflect.ValueOf(*plain).FieldByIndex(sf.Index).Interface() {
					found, set[sf.Name] = true, true
				}
			}
		}
		if !found {
			t.Errorf("%s sets nothing", key)
		}
	}
	for sf := range reflect.TypeFor[autoscalerconfig.Config]().Fields() {
		// TargetUtilization has no setting in Knative either.
		if !set[sf.Name] && sf.Name != "TargetUtilization" {
			t.Errorf("no setting that is known here sets %s", sf.Name)
		}
	}
}

func TestDefaultsSettingsAreComplete(t *testing.T) {
	set := map[string]bool{}
	plain, err := config.NewDefaultsConfigFromMap(nil)
	if err != nil {
		t.Fatal(err)
	}
	for key := range configKeys[config.DefaultsConfigName] {
		found := false
		for _, value := range []string{"true", "false", "7", "700", "x"} {
			got, err := config.NewDefaultsConfigFromMap(map[string]string{key: value})
			if err != nil {
				continue
			}
			for sf := range reflect.TypeFor[config.Defaults]().Fields() {
				if !reflect.DeepEqual(reflect.ValueOf(*got).FieldByIndex(sf.Index).Interface(), reflect.ValueOf(*plain).FieldByIndex(sf.Index).Interface()) {
					found, set[sf.Name] = true, true
				}
			}
		}
		if !found {
			t.Errorf("%s sets nothing", key)
		}
	}
	for sf := range reflect.TypeFor[config.Defaults]().Fields() {
		if !set[sf.Name] {
			t.Errorf("no setting that is known here sets %s", sf.Name)
		}
	}
}

func TestFeatureSettingsAreComplete(t *testing.T) {
	set := map[string]bool{}
	plain, err := config.NewFeaturesConfigFromMap(nil)
	if err != nil {
		t.Fatal(err)
	}
	for key := range configKeys[featuresName] {
		for _, value := range []string{"Enabled", "Disabled", "Allowed"} {
			got, err := config.NewFeaturesConfigFromMap(map[string]string{key: value})
			if err != nil {
				t.Fatal(err)
			}
			for sf := range reflect.TypeFor[config.Features]().Fields() {
				if reflect.ValueOf(*got).FieldByIndex(sf.Index).Interface() != reflect.ValueOf(*plain).FieldByIndex(sf.Index).Interface() {
					set[sf.Name] = true
				}
			}
		}
	}
	for sf := range reflect.TypeFor[config.Features]().Fields() {
		if !set[sf.Name] {
			t.Errorf("no setting that is known here sets %s", sf.Name)
		}
	}
}
