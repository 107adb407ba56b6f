package manifest

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"sigs.k8s.io/kustomize/api/resource"
)

// builtOf builds a folder of manifests.
func builtOf(t *testing.T, folder string) []*resource.Resource {
	t.Helper()
	tr, err := openTree(project)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	var f findings
	built := tr.build(&f, "/manifests/"+folder)
	if err := f.err(folder); err != nil {
		t.Fatal(err)
	}
	return built.Resources()
}

// The controller's manifests are of Kubernetes' own types, strictly, and its pod
// is a restricted one. What its role allows, activator/controller tests.
func TestController(t *testing.T) {
	var f findings
	var kinds []string
	for _, res := range builtOf(t, "controller") {
		value, err := res.Map()
		if err != nil {
			t.Fatal(err)
		}
		object := res.GetKind() + " " + res.GetName()
		kinds = append(kinds, res.GetKind())
		switch res.GetKind() {
		case "CustomResourceDefinition": // activator/schedule tests it
		case "Namespace":
			n, _ := decode[corev1.Namespace](&f, object, value)
			if n.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
				t.Errorf("%s has %v", object, n.Labels)
			}
		case "ServiceAccount":
			decode[corev1.ServiceAccount](&f, object, value)
		case "ClusterRole":
			decode[rbacv1.ClusterRole](&f, object, value)
		case "ClusterRoleBinding":
			decode[rbacv1.ClusterRoleBinding](&f, object, value)
		case "Role":
			decode[rbacv1.Role](&f, object, value)
		case "RoleBinding":
			decode[rbacv1.RoleBinding](&f, object, value)
		case "NetworkPolicy":
			decode[networkingv1.NetworkPolicy](&f, object, value)
		case "Deployment":
			d, _ := decode[appsv1.Deployment](&f, object, value)
			pod, c := d.Spec.Template.Spec, d.Spec.Template.Spec.Containers[0]
			if s := pod.SecurityContext; !*s.RunAsNonRoot || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("the pod's security context: %+v", s)
			}
			if s := c.SecurityContext; *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("its container's: %+v", s)
			}
			if c.Image != "aisle-controller" || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
				t.Errorf("image %s, resources %+v", c.Image, c.Resources)
			}
		default:
			t.Errorf("%s", object)
		}
	}
	if err := f.err("controller"); err != nil {
		t.Error(err)
	}
	for _, overlay := range []string{"e2e", "gke"} {
		n := 0
		for _, res := range builtOf(t, "overlays/"+overlay) {
			if ofController(res) {
				n++
			}
		}
		if n != len(kinds) {
			t.Errorf("overlay %s has %d of the controller's %d objects", overlay, n, len(kinds))
		}
	}
}

// ofController says whether an overlay's object is one of manifests/controller.
func ofController(res *resource.Resource) bool {
	const namespace = "aisle-system"
	switch res.GetKind() {
	case "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding":
		return true
	case "Namespace":
		return res.GetName() == namespace
	}
	return res.GetNamespace() == namespace
}
