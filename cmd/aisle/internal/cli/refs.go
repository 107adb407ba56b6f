package cli

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"aisle.dev/aisle/internal/client/objects"
)

// ref is an object that the command line names.
type ref struct {
	kind            objects.Kind
	namespace, name string // no namespace: the one that names are of
}

// in is the ref's namespace, or the usual one.
func (r ref) in(usual string) string { return cmp.Or(r.namespace, usual) }

// refs reads KIND [NAME...], or KIND/NAME... as kubectl does. A NAME may be
// NAMESPACE/NAME.
func refs(args []string) (objects.Kind, []ref, error) {
	if strings.Contains(args[0], "/") {
		var all []ref
		for _, arg := range args {
			kind, name, ok := strings.Cut(arg, "/")
			k, known := objects.Named(kind)
			switch {
			case !ok || name == "":
				return k, nil, usagef("%q is not KIND/NAME; use that for all of them, or for none", arg)
			case !known:
				return k, nil, noKind(kind)
			}
			all = append(all, refOf(k, name))
		}
		return all[0].kind, all, nil
	}
	k, ok := objects.Named(args[0])
	if !ok {
		return k, nil, noKind(args[0])
	}
	var all []ref
	for _, name := range args[1:] {
		all = append(all, refOf(k, name))
	}
	return k, all, nil
}

func refOf(k objects.Kind, name string) ref {
	if namespace, rest, ok := strings.Cut(name, "/"); ok {
		return ref{k, namespace, rest}
	}
	return ref{kind: k, name: name}
}

func noKind(name string) error {
	return usagef("%q is not a kind; use %s", name, strings.Join(kindNames(), ", "))
}

// kindNames are the kinds' names in the plural.
func kindNames() []string {
	var all []string
	for _, k := range objects.Kinds {
		all = append(all, k.Plural)
	}
	return all
}

// completeNames completes a kind out of kinds, then names of that kind, each
// once.
func (a *app) completeNames(cmd *cobra.Command, args []string, kinds []string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return kinds, cobra.ShellCompDirectiveNoFileComp
	}
	k, ok := objects.Named(args[0])
	if !ok {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.DeleteFunc(a.names(cmd, k), func(name string) bool { return slices.Contains(args[1:], name) }), cobra.ShellCompDirectiveNoFileComp
}

// names are what there is of a kind, asked of the place within the time that
// somebody waits who has pressed Tab.
func (a *app) names(cmd *cobra.Command, k objects.Kind) []string {
	p, err := a.place()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completing)
	defer cancel()
	all, err := p.Objects().Untyped(ctx, k, a.named(p), "")
	if err != nil {
		return nil // where nothing answers there is nothing to complete
	}
	var names []string
	for _, o := range all {
		names = append(names, o.GetName())
	}
	return names
}

// title is an object in messages: "service/title".
func title(o *unstructured.Unstructured) string {
	return strings.ToLower(o.GetKind()) + "/" + o.GetName()
}
