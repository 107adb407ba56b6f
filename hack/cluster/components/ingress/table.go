package main

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"strings"

	"knative.dev/networking/pkg/apis/networking/v1alpha1"
)

// A table says where a host's requests go. It is built anew at each change and
// never altered.
type table map[string][]route

type route struct {
	external bool
	path     *v1alpha1.HTTPIngressPath
}

// newTable builds the table; of two objects with one host, the older's paths
// come first.
func newTable(objects []*v1alpha1.Ingress) table {
	objects = slices.Clone(objects)
	slices.SortStableFunc(objects, func(a, b *v1alpha1.Ingress) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name))
	})
	t := table{}
	for _, object := range objects {
		for _, rule := range object.Spec.Rules {
			if rule.HTTP == nil {
				continue
			}
			for _, host := range rule.Hosts {
				for i := range rule.HTTP.Paths {
					external := rule.Visibility != v1alpha1.IngressVisibilityClusterLocal
					t[host] = append(t[host], route{external, &rule.HTTP.Paths[i]})
				}
			}
		}
	}
	for _, routes := range t { // the most particular first
		slices.SortStableFunc(routes, func(a, b route) int {
			return cmp.Or(cmp.Compare(len(b.path.Path), len(a.path.Path)), cmp.Compare(len(b.path.Headers), len(a.path.Headers)))
		})
	}
	return t
}

// match finds the path of a request, nil if there is none.
func (t table) match(r *http.Request, external bool) *v1alpha1.HTTPIngressPath {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	for _, route := range t[strings.ToLower(host)] {
		if (route.external || !external) && strings.HasPrefix(r.URL.Path, route.path.Path) && hasHeaders(r, route.path) {
			return route.path
		}
	}
	return nil
}

func hasHeaders(r *http.Request, p *v1alpha1.HTTPIngressPath) bool {
	for name, want := range p.Headers {
		if r.Header.Get(name) != want.Exact {
			return false
		}
	}
	return true
}

// choose takes a split by its share; draw is in [0, 100).
func choose(p *v1alpha1.HTTPIngressPath, draw int) *v1alpha1.IngressBackendSplit {
	for i := range p.Splits {
		if draw -= p.Splits[i].Percent; draw < 0 {
			return &p.Splits[i]
		}
	}
	if len(p.Splits) == 0 {
		return nil
	}
	return &p.Splits[0] // one alone may leave its share out
}
