package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/networking/pkg/apis/networking/v1alpha1"
)

func split(name string, percent int) v1alpha1.IngressBackendSplit {
	return v1alpha1.IngressBackendSplit{IngressBackend: v1alpha1.IngressBackend{ServiceName: name}, Percent: percent}
}

func ingress(name string, age int, visibility v1alpha1.IngressVisibility, host string, paths ...v1alpha1.HTTPIngressPath) *v1alpha1.Ingress {
	return &v1alpha1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(1000-age), 0))},
		Spec: v1alpha1.IngressSpec{Rules: []v1alpha1.IngressRule{{
			Hosts: []string{host}, Visibility: visibility, HTTP: &v1alpha1.HTTPIngressRuleValue{Paths: paths},
		}}},
	}
}

func TestMatch(t *testing.T) {
	tagged := v1alpha1.HTTPIngressPath{Headers: map[string]v1alpha1.HeaderMatch{"Knative-Serving-Tag": {Exact: "new"}}, Splits: []v1alpha1.IngressBackendSplit{split("tagged", 100)}}
	plain := v1alpha1.HTTPIngressPath{Splits: []v1alpha1.IngressBackendSplit{split("plain", 100)}}
	challenge := v1alpha1.HTTPIngressPath{Path: "/.well-known/", Splits: []v1alpha1.IngressBackendSplit{split("challenge", 100)}}
	younger := v1alpha1.HTTPIngressPath{Splits: []v1alpha1.IngressBackendSplit{split("younger", 100)}}
	table := newTable([]*v1alpha1.Ingress{
		ingress("b", 1, v1alpha1.IngressVisibilityExternalIP, "a.example", younger),
		ingress("a", 2, v1alpha1.IngressVisibilityExternalIP, "a.example", plain, tagged, challenge),
		ingress("c", 3, v1alpha1.IngressVisibilityClusterLocal, "inside.example", plain),
	})
	tests := []struct {
		name, url string
		header    http.Header
		external  bool
		want      string // empty: no route
	}{
		{"host", "http://a.example/x", nil, true, "plain"},
		{"host with a port, in upper case", "http://A.EXAMPLE:80/x", nil, true, "plain"},
		{"header", "http://a.example/", http.Header{"Knative-Serving-Tag": {"new"}}, true, "tagged"},
		{"another header's value", "http://a.example/", http.Header{"Knative-Serving-Tag": {"old"}}, true, "plain"},
		{"longer path", "http://a.example/.well-known/x", nil, true, "challenge"},
		{"unknown host", "http://b.example/", nil, true, ""},
		{"cluster-local from outside", "http://inside.example/", nil, true, ""},
		{"cluster-local from inside", "http://inside.example/", nil, false, "plain"},
		{"external from inside", "http://a.example/", nil, false, "plain"},
	}
	for _, test := range tests {
		r := httptest.NewRequest(http.MethodGet, test.url, nil)
		r.Header = test.header
		got := ""
		if p := table.match(r, test.external); p != nil {
			got = p.Splits[0].ServiceName
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestChoose(t *testing.T) {
	p := &v1alpha1.HTTPIngressPath{Splits: []v1alpha1.IngressBackendSplit{split("old", 90), split("new", 10)}}
	count := map[string]int{}
	for draw := range 100 {
		count[choose(p, draw).ServiceName]++
	}
	if count["old"] != 90 || count["new"] != 10 {
		t.Errorf("shares %v", count)
	}
	if s := choose(&v1alpha1.HTTPIngressPath{Splits: []v1alpha1.IngressBackendSplit{split("alone", 0)}}, 99); s.ServiceName != "alone" {
		t.Errorf("a split without a share: %v", s)
	}
	if s := choose(&v1alpha1.HTTPIngressPath{}, 0); s != nil {
		t.Errorf("no splits: %v", s)
	}
}
