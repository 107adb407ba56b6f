package manifest

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// service defaults and validates a Service, and sees that it can run with what
// is there. old is the Service of that name that is there already, or nil.
func (c *checker) service(object string, value map[string]any, old *servingv1.Service) *servingv1.Service {
	f := c.findings
	before := len(f.problems)
	ks, ok := decode[servingv1.Service](f, object, value)
	if !ok {
		return nil
	}
	applyRules(f, object, "", "", value)
	checkAnnotations(f, object, "metadata.annotations", ks.Annotations, serviceAnnotations)
	checkAnnotations(f, object, "spec.template.metadata.annotations", ks.Spec.Template.Annotations, templateAnnotations)
	c.validate(object, ks, old)
	if len(f.problems) > before {
		return nil
	}
	r := reducer{Sources: c.sources, findings: f, object: object, at: template, namespace: ks.Namespace}
	r.reduce(&ks.Spec.Template.Spec)
	return ks
}

// validate defaults and validates a Service by Knative's own code. That code is
// called on hostile objects: a panic of it is a problem of the object's.
func (c *checker) validate(object string, ks, old *servingv1.Service) {
	defer func() {
		if r := recover(); r != nil {
			c.findings.refuse(object, "", "Knative's validation fails on it: %v", r)
		}
	}()
	if n := len(ks.Spec.Template.Spec.Containers); n > 1 {
		c.findings.refuse(object, template+".containers", "cannot be honoured on one machine: %d containers: %s", n, onlyOne)
		return
	}
	// ko puts its own reference here before a cluster sees the manifest.
	restore := withoutScheme(ks)
	defer restore()
	ctx := apis.WithinCreate(c.set.Settings.context())
	ks.SetDefaults(ctx) // as if it were new: within an update Knative leaves some out
	if old != nil {
		old = old.DeepCopy()
		withoutScheme(old)
		ctx = apis.WithinUpdate(c.set.Settings.context(), old)
	}
	c.report(object, ks.Validate(ctx))
}

// withoutScheme takes ko:// from the image of a Service's one container, and
// gives what puts it back.
func withoutScheme(ks *servingv1.Service) (restore func()) {
	if len(ks.Spec.Template.Spec.Containers) != 1 {
		return func() {}
	}
	image := func() *corev1.Container { return &ks.Spec.Template.Spec.Containers[0] }
	written := image().Image
	image().Image = strings.TrimPrefix(written, koScheme)
	return func() { image().Image = written }
}

// report takes Knative's errors apart. Its warnings are about a cluster's
// security defaults.
func (c *checker) report(object string, err *apis.FieldError) {
	err = err.Filter(apis.ErrorLevel)
	if err == nil {
		return
	}
	for _, e := range err.WrappedErrors() {
		reason := e.Message
		if e.Details != "" {
			reason += ": " + e.Details
		}
		c.findings.refuse(object, strings.Join(e.Paths, ", "), "%s", strings.Join(strings.Fields(reason), " "))
	}
}
