package schedule

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/internal/scaling"
)

// apiServer is what an API server does with the committed CRD's objects.
type apiServer struct {
	schema *structuralschema.Structural
	shape  validation.SchemaValidator
	rules  *cel.Validator
}

func newAPIServer(t *testing.T) apiServer {
	t.Helper()
	text, err := os.ReadFile("../../manifests/controller/crd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var v1 apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &v1); err != nil {
		t.Fatal(err)
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(&v1)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&v1.Spec)
	var crd apiextensions.CustomResourceDefinition
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&v1, &crd, nil); err != nil {
		t.Fatal(err)
	}
	crd.Status.StoredVersions = []string{"v1alpha1"} // as the server sets it
	if errs := crdvalidation.ValidateCustomResourceDefinition(t.Context(), &crd); len(errs) > 0 {
		t.Fatalf("an API server refuses the CRD: %v", errs.ToAggregate())
	}
	props := crd.Spec.Validation
	if props == nil {
		props = crd.Spec.Versions[0].Schema
	}
	schema, err := structuralschema.NewStructural(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	shape, _, err := validation.NewSchemaValidator(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return apiServer{schema: schema, shape: shape, rules: cel.NewValidator(schema, true, math.MaxInt64)}
}

// admit is what the server says of an object, which it defaults.
func (s apiServer) admit(t *testing.T, object map[string]any) field.ErrorList {
	t.Helper()
	defaulting.Default(object, s.schema)
	errs := validation.ValidateCustomResource(nil, object, s.shape)
	if len(errs) == 0 {
		errs, _ = s.rules.Validate(t.Context(), nil, s.schema, object, nil, math.MaxInt64)
	}
	return errs
}

// TestCRD: an API server and Compile agree on what can be used, the API server
// as far as it can know; each says which field is at fault.
func TestCRD(t *testing.T) {
	server := newAPIServer(t)
	tests := []struct {
		name, spec string
		field      string // as Compile has it; empty: it can be used
		reason     string // a part of it
		serverOK   bool   // an API server cannot know
	}{
		{name: "a floor", spec: `{windows: [{floor: 1}]}`},
		{name: "a cap of times", spec: `{windows: [{start: "08:00", end: "24:00", cap: 1}]}`},
		{name: "everything", spec: `{timeZone: Europe/Prague, readyBy: true, leadTime: 90s, until: "2030-01-01T00:00:00Z", reason: sale,
			windows: [{name: office, days: [Mon-Fri, Sun], start: "22:00", end: "06:00", from: "2026-01-01", until: "2026-12-31", floor: 1, cap: 3},
				{cron: {start: "0 8 * * 1-5", end: "0 18 * * 1-5"}, closed: true}],
			exceptions: [{name: Christmas, dates: ["2026-12-24"], windows: [{start: "10:00", end: "12:00", floor: 0}]}]}`},
		{name: "exceptions alone", spec: `{exceptions: [{dates: ["2026-11-27"], windows: [{floor: 5}]}]}`},
		{name: "no windows", spec: `{windows: []}`, field: "spec.windows", reason: "names none"},
		{name: "no service", spec: `{service: "", windows: [{floor: 1}]}`, field: "spec.service", reason: "missing"},
		{name: "a service that cannot be", spec: `{service: Title, windows: [{floor: 1}]}`, field: "spec.service", reason: `"Title" is no name`},
		{name: "unknown zone", spec: `{timeZone: Europe/Pragu, windows: [{floor: 1}]}`, field: "spec.timeZone", reason: "IANA", serverOK: true},
		{name: "this machine's zone", spec: `{timeZone: Local, windows: [{floor: 1}]}`, field: "spec.timeZone", reason: "IANA"},
		{name: "a zone that is a path", spec: `{timeZone: ../UTC, windows: [{floor: 1}]}`, field: "spec.timeZone", reason: "IANA", serverOK: true},
		{name: "a lead time below 0", spec: `{leadTime: -1s, windows: [{floor: 1}]}`, field: "spec.leadTime", reason: "between 0s and 24h"},
		{name: "a lead time of days", spec: `{leadTime: 25h, windows: [{floor: 1}]}`, field: "spec.leadTime", reason: "between 0s and 24h"},
		{name: "a window of nothing", spec: `{windows: [{start: "08:00"}]}`, field: "spec.windows[0]", reason: "asks for nothing"},
		{name: "closed: false alone", spec: `{windows: [{closed: false}]}`, field: "spec.windows[0]", reason: "asks for nothing"},
		{name: "closed with a floor", spec: `{windows: [{closed: true, floor: 1}]}`, field: "spec.windows[0].closed", reason: "leave them out"},
		{name: "floor above cap", spec: `{windows: [{floor: 3, cap: 2}]}`, field: "spec.windows[0].floor", reason: "above the window's cap of 2"},
		{name: "floor below 0", spec: `{windows: [{floor: -1}]}`, field: "spec.windows[0].floor", reason: "between 0 and 10000"},
		{name: "floor of millions", spec: `{windows: [{floor: 1000000}]}`, field: "spec.windows[0].floor", reason: "between 0 and 10000"},
		{name: "cap 0", spec: `{windows: [{cap: 0}]}`, field: "spec.windows[0].cap", reason: "use closed: true"},
		{name: "cap below 0", spec: `{windows: [{cap: -2}]}`, field: "spec.windows[0].cap", reason: "between 1 and 10000"},
		{name: "no day", spec: `{windows: [{days: [Mon, fri], floor: 1}]}`, field: "spec.windows[0].days[1]", reason: "Mon-Fri"},
		{name: "no time", spec: `{windows: [{start: "8:00", floor: 1}]}`, field: "spec.windows[0].start", reason: "00:00 to 23:59"},
		{name: "a start of 24:00", spec: `{windows: [{start: "24:00", floor: 1}]}`, field: "spec.windows[0].start", reason: "00:00 to 23:59"},
		{name: "an end of 25:00", spec: `{windows: [{floor: 1}, {end: "25:00", floor: 1}]}`, field: "spec.windows[1].end", reason: "00:00 to 24:00"},
		{name: "a date that is none", spec: `{windows: [{from: "2026-02-30", floor: 1}]}`, field: "spec.windows[0].from", reason: "2026-12-24"},
		{name: "until before from", spec: `{windows: [{from: "2026-03-30", until: "2026-03-01", floor: 1}]}`, field: "spec.windows[0].until", reason: "before from"},
		{name: "cron and times", spec: `{windows: [{cron: {start: "0 8 * * *", end: "0 9 * * *"}, start: "08:00", floor: 1}]}`, field: "spec.windows[0].cron", reason: "either cron or those"},
		{name: "cron with six fields", spec: `{windows: [{cron: {start: "0 0 8 * * *", end: "0 9 * * *"}, floor: 1}]}`, field: "spec.windows[0].cron.start", reason: `has 6 fields; write five (minute, hour, day of month, month, day of week), such as "0 8 * * 1-5"`},
		{name: "cron with a zone", spec: `{windows: [{cron: {start: "TZ=0 0 8 * * *", end: "0 9 * * *"}, floor: 1}]}`, field: "spec.windows[0].cron.start", reason: "leave it out"},
		{name: "cron that is a zone alone", spec: `{windows: [{cron: {start: "TZ=0", end: "0 9 * * *"}, floor: 1}]}`, field: "spec.windows[0].cron.start", reason: "leave it out"},
		{name: "a descriptor", spec: `{windows: [{cron: {start: "@daily", end: "0 9 * * *"}, floor: 1}]}`, field: "spec.windows[0].cron.start", reason: "write five fields"},
		{name: "cron without an end", spec: `{windows: [{cron: {start: "0 9 * * *"}, floor: 1}]}`, field: "spec.windows[0].cron.end", reason: "0 fields"},
		{name: "cron that never comes", spec: `{windows: [{cron: {start: "0 9 31 2 *", end: "0 9 * * *"}, floor: 1}]}`, field: "spec.windows[0].cron.start", reason: "never comes", serverOK: true},
		{name: "an exception without dates", spec: `{windows: [{floor: 1}], exceptions: [{dates: []}]}`, field: "spec.exceptions[0].dates", reason: "names no date"},
		{name: "an exception's date that is none", spec: `{windows: [{floor: 1}], exceptions: [{dates: ["2026-11-31"]}]}`, field: "spec.exceptions[0].dates[0]", reason: "2026-12-24"},
		{name: "a date twice", spec: `{windows: [{floor: 1}], exceptions: [{dates: ["2026-11-30"]}, {dates: ["2026-11-30"]}]}`, field: "spec.exceptions[1].dates[0]", reason: "already", serverOK: true},
		{name: "an exception's window with days", spec: `{windows: [{floor: 1}], exceptions: [{dates: ["2026-11-30"], windows: [{days: [Mon], floor: 1}]}]}`, field: "spec.exceptions[0].windows[0]", reason: "leave them out"},
		{name: "too long a reason", spec: `{windows: [{floor: 1}], reason: "` + strings.Repeat("x", 257) + `"}`, field: "spec.reason", reason: "at most 256"},
		{name: "too many windows with those of exceptions", spec: `{windows: [` + strings.Repeat(`{floor: 1, cron: {start: "0 8 * * *", end: "0 9 * * *"}},`, 64) + `], exceptions: [{dates: ["2026-11-30"], windows: [{floor: 1}]}]}`,
			field: "spec.exceptions", reason: "have 513 windows", serverOK: true},
		{name: "too many windows", spec: `{windows: [` + strings.Repeat("{floor: 1},", 65) + `]}`, field: "spec.windows", reason: "at most 64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var spec map[string]any
			text, err := yaml.YAMLToJSON([]byte(tt.spec))
			if err != nil {
				t.Fatal(err)
			}
			if err := utiljson.Unmarshal(text, &spec); err != nil { // with integers, as the server reads them
				t.Fatal(err)
			}
			if _, ok := spec["service"]; !ok {
				spec["service"] = "title"
			}
			object := map[string]any{"apiVersion": scaling.GroupVersion.String(), "kind": scaling.Kind,
				"metadata": map[string]any{"name": "office"}, "spec": spec}
			errs := server.admit(t, object)
			if ok := len(errs) == 0; ok != (tt.field == "" || tt.serverOK) {
				t.Errorf("the API server says: %v", errs.ToAggregate())
			}
			if text, err = json.Marshal(object); err != nil {
				t.Fatal(err)
			}
			var s scaling.ScalingSchedule
			if err := json.Unmarshal(text, &s); err != nil {
				t.Fatal(err)
			}
			_, err = Compile("office", &s.Spec)
			invalid, _ := errors.AsType[*Invalid](err)
			switch {
			case tt.field == "" && err == nil:
			case invalid == nil:
				t.Errorf("Compile says %v", err)
			case invalid.Problems[0].Field != tt.field || !strings.Contains(invalid.Problems[0].Reason, tt.reason):
				t.Errorf("Compile says %v, want %s: ... %s ...", err, tt.field, tt.reason)
			}
			if zone, _, _ := strings.Cut(s.Spec.TimeZone, "/"); tt.field == "" && zone == "" {
				t.Error("no time zone was defaulted")
			}
		})
	}
}

// TestServiceStays: an API server refuses to move a schedule to another service,
// as Admit does.
func TestServiceStays(t *testing.T) {
	server := newAPIServer(t)
	of := func(service string) map[string]any {
		return map[string]any{"apiVersion": scaling.GroupVersion.String(), "kind": scaling.Kind, "metadata": map[string]any{"name": "office"},
			"spec": map[string]any{"service": service, "windows": []any{map[string]any{"floor": int64(1)}}}}
	}
	for service, ok := range map[string]bool{"title": true, "photo": false} {
		errs, _ := server.rules.Validate(t.Context(), nil, server.schema, of(service), of("title"), math.MaxInt64)
		if (len(errs) == 0) != ok {
			t.Errorf("from title to %s: the API server says: %v", service, errs.ToAggregate())
		}
		s, err := Compile("office", &scaling.Spec{Service: service, Windows: []scaling.Window{{Hold: scaling.Hold{Floor: new(int32(1))}}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Admit(&scaling.Spec{Service: "title"}, nil, eight); (err == nil) != ok {
			t.Errorf("from title to %s: Admit says: %v", service, err)
		}
	}
}
