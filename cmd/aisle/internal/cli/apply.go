package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client/objects"
	"aisle.dev/aisle/internal/manifest"
)

// sources are the flags that say which objects are meant.
type sources struct {
	kustomize string
	files     []string
	dryRun    string
}

func (s *sources) flags(cmd *cobra.Command) {
	s.fileFlags(cmd)
	cmd.Flags().StringVar(&s.dryRun, "dry-run", "none", "server: say what would be, and change nothing; none")
	_ = cmd.RegisterFlagCompletionFunc("dry-run", cobra.FixedCompletions([]string{"none", "server"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
}

// fileFlags are those of a command that only reads.
func (s *sources) fileFlags(cmd *cobra.Command) {
	s.dryRun = "none"
	f := cmd.Flags()
	f.StringVarP(&s.kustomize, "kustomize", "k", "", "a kustomize folder; nothing is fetched for it")
	f.StringArrayVarP(&s.files, "filename", "f", nil, "a file of YAML or JSON, of several objects too; - is standard input; may be given again")
	_ = cmd.RegisterFlagCompletionFunc("filename", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)) // files; fails only for a flag that is not there
	_ = cmd.MarkFlagDirname("kustomize")                                                                         // likewise
}

func (s *sources) given() bool { return s.kustomize != "" || len(s.files) > 0 }

func (s *sources) check() error {
	if s.kustomize != "" && len(s.files) > 0 {
		return usagef("use -k DIR or -f FILE, not both")
	}
	if s.dryRun != "none" && s.dryRun != "server" {
		return usagef("--dry-run=%s: use server or none", s.dryRun)
	}
	return nil
}

// dry is what stands behind a line of what would be done.
func (s *sources) dry() string {
	if s.dryRun == "server" {
		return " (server dry run)"
	}
	return ""
}

// read gives the objects as they are written.
func (s *sources) read(stdin io.Reader) ([]*unstructured.Unstructured, error) {
	if s.kustomize != "" {
		return manifest.Build(s.kustomize)
	}
	var all []*unstructured.Unstructured
	for _, name := range s.files {
		some, err := readFile(name, stdin)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func readFile(name string, stdin io.Reader) ([]*unstructured.Unstructured, error) {
	if name == "-" {
		return manifest.Read("standard input", stdin)
	}
	info, err := os.Stat(name)
	if err == nil && info.IsDir() {
		return nil, usagef("%s is a folder; use -k for a kustomize folder", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return manifest.Read(name, f)
}

// object is one object and its kind at a place.
type object struct {
	kind objects.Kind
	*unstructured.Unstructured
}

// known gives the objects that a place has kinds for, each in its namespace,
// in the order in which they find what they refer to. What the place has no use
// for is told and left out.
func (a *app) known(ctx context.Context, p place, all []*unstructured.Unstructured) ([]object, error) {
	var some []object
	var failed []error
	for _, o := range all {
		if o.GetName() == "" {
			failed = append(failed, fmt.Errorf("a %s has no metadata.name", cmp.Or(o.GetKind(), "document without kind")))
			continue
		}
		if a.onCluster() && o.GetKind() == objects.ImageMap.Name && o.GetAPIVersion() == objects.ImageMap.GroupVersion().String() {
			a.err.Printf("%s left out: a cluster pulls images\n", screen.Clean(title(o)))
			continue
		}
		k, err := p.Objects().Find(ctx, o.GetAPIVersion(), o.GetKind())
		if errors.Is(err, objects.ErrNoKind) && !a.onCluster() {
			set, err := manifest.Check([]*unstructured.Unstructured{o}, nil)
			if err != nil {
				failed = append(failed, err)
			} else {
				for _, i := range set.Ignored {
					a.err.Printf("%s left out: %s\n", screen.Clean(title(o)), screen.Clean(i.Reason))
				}
			}
			continue
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", title(o), err))
			continue
		}
		o = o.DeepCopy()
		switch {
		case k.Everywhere:
			o.SetNamespace("")
		case o.GetNamespace() == "":
			o.SetNamespace(a.named(p))
		case a.at.namespace != "" && o.GetNamespace() != a.at.namespace:
			failed = append(failed, usagef("%s is of namespace %s, and -n says %s; leave one of them away", title(o), o.GetNamespace(), a.at.namespace))
		}
		some = append(some, object{k, o})
	}
	if len(failed) > 0 {
		return nil, errors.Join(failed...)
	}
	slices.SortStableFunc(some, func(x, y object) int { return rank(x.kind) - rank(y.kind) })
	return some, nil
}

// rank orders kinds so that what others refer to comes first.
func rank(k objects.Kind) int {
	switch {
	case k.Everywhere:
		return 0
	case k.Group == "":
		return 1
	case k.Name == objects.ImageMap.Name:
		return 2
	case k.Name == objects.Broker.Name:
		return 3
	}
	return 4
}

func (a *app) apply() *cobra.Command {
	var s sources
	var force, wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "apply -k DIR | -f FILE",
		Short: "Make services, triggers and the like what files say",
		Long: `Make objects what files say: Knative Services, ConfigMaps, Secrets, Brokers,
Triggers, PingSources and ImageMaps, on this machine or on a cluster (there every
kind that it has), by server-side apply. ConfigMaps and Secrets go first. What
was applied stays until it is deleted, also when the engine starts again. An
object with metadata.resourceVersion is applied to that version alone: where
somebody has changed it since, that is a conflict.

With --wait it ends once everything is Ready. It fails at once where a Service
says that it cannot become so, and at the timeout for all else, and says why.`,
		Example: `  aisle apply -k manifests/overlays/local
  aisle apply -f title.yaml --wait --timeout 2m
  aisle get service title -o yaml | sed 's/v1/v2/' | aisle apply -f -
  aisle --context prod -n aisle apply -k manifests/overlays/gke --dry-run=server`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !s.given() {
				return usagef("say what to apply: -k DIR or -f FILE")
			}
			if err := s.check(); err != nil {
				return err
			}
			if timeout <= 0 {
				return usagef("--timeout %v: use a duration such as 5m", timeout)
			}
			all, err := s.read(a.In)
			if err != nil {
				return err
			}
			p, err := a.place()
			if err != nil {
				return err
			}
			some, err := a.known(cmd.Context(), p, all)
			if err != nil {
				return err
			}
			applied, err := a.applyAll(cmd.Context(), p, some, objects.Applying{DryRun: s.dryRun == "server", Force: force}, s.dry())
			if err != nil || !wait || s.dryRun == "server" {
				return err
			}
			return a.await(cmd.Context(), p, applied, timeout)
		},
	}
	s.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&force, "force-conflicts", false, "take over what another manager, such as kubectl, has set")
	f.BoolVar(&wait, "wait", false, "end once everything is Ready")
	f.DurationVar(&timeout, "timeout", 5*time.Minute, "of --wait")
	return cmd
}

// applyAll applies one object after the other, and goes on after one that is
// refused.
func (a *app) applyAll(ctx context.Context, p place, all []object, how objects.Applying, dry string) ([]object, error) {
	var applied []object
	var failed []error
	h := &inVain{}
	defer func() { h.tell(a.err) }()
	for _, o := range all {
		how.Warn = func(text string) {
			// As the engine has it of fields; a cluster warns otherwise.
			if field, reason, ok := strings.Cut(text, ": ignored on one machine: "); ok {
				h.add(field, reason)
				return
			}
			a.err.Printf("%s: %s\n", screen.Clean(title(o.Unstructured)), screen.Clean(text))
		}
		how.Versioned = true
		made, outcome, err := p.Objects().Apply(ctx, o.kind, o.Unstructured, how)
		switch version := o.GetResourceVersion(); {
		case !apierrors.IsConflict(err):
		case version != "" && !apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict):
			err = fmt.Errorf("%w; it was made from version %.40q: read the object anew, or leave metadata.resourceVersion away to apply it all the same", err, version)
		default:
			err = fmt.Errorf("%w; take its fields over with --force-conflicts", err)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		applied = append(applied, object{o.kind, made})
		if _, err := fmt.Fprintf(a.out, "%s %s%s\n", screen.Clean(title(made)), outcome, dry); err != nil {
			return nil, err
		}
	}
	if len(failed) > 0 && len(all) > 1 {
		failed = append(failed, fmt.Errorf("%d of %d were not applied", len(failed), len(all)))
	}
	return applied, errors.Join(failed...)
}

func (a *app) delete() *cobra.Command {
	var s sources
	var absentOK, yes bool
	cmd := &cobra.Command{
		Use:   "delete KIND NAME... | KIND/NAME... | -k DIR | -f FILE",
		Short: "Delete services, triggers and the like",
		Long: `Delete objects by their names, or all that files name. Requests in flight at a
deleted Service end in their time; it does not wait for that. On this machine it
asks before it deletes a Broker or a Trigger with events yet to be delivered,
unless --yes is given; where nobody can answer, it refuses.`,
		Example: `  aisle delete service title
  aisle delete trigger/on-product broker/default
  aisle delete -f title.yaml --ignore-not-found
  aisle --context prod -n aisle delete -k manifests/overlays/gke --dry-run=server`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case s.given() && len(args) > 0:
				return usagef("use names, or -k and -f, not both")
			case !s.given() && len(args) == 0:
				return usagef("say what to delete: KIND NAME, -k DIR or -f FILE")
			case len(args) == 1 && !strings.Contains(args[0], "/"):
				return usagef("say which %s to delete by name", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.check(); err != nil {
				return err
			}
			p, err := a.place()
			if err != nil {
				return err
			}
			var all []object
			if s.given() {
				read, err := s.read(a.In)
				if err != nil {
					return err
				}
				if all, err = a.known(cmd.Context(), p, read); err != nil {
					return err
				}
				slices.Reverse(all)
			} else if all, err = a.namedObjects(p, args); err != nil {
				return err
			}
			if !yes && s.dryRun != "server" {
				if err := a.confirmUndelivered(cmd.Context(), p, all); err != nil {
					return err
				}
			}
			var failed []error
			for _, o := range all {
				err := p.Objects().Delete(cmd.Context(), o.kind, o.GetNamespace(), o.GetName(), s.dryRun == "server")
				if absentOK && apierrors.IsNotFound(err) && !objects.NoKind(err) {
					continue
				}
				if err != nil {
					failed = append(failed, err)
					continue
				}
				if _, err := fmt.Fprintf(a.out, "%s deleted%s\n", screen.Clean(title(o.Unstructured)), s.dry()); err != nil {
					return err
				}
			}
			return errors.Join(failed...)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.completeNames(cmd, args, kindNames())
		},
	}
	s.flags(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&absentOK, "ignore-not-found", false, "what is not there is no error")
	return cmd
}

// namedObjects are those that the command line names.
func (a *app) namedObjects(p place, args []string) ([]object, error) {
	_, names, err := refs(args)
	if err != nil {
		return nil, err
	}
	var all []object
	for _, r := range names {
		o := &unstructured.Unstructured{Object: map[string]any{}}
		o.SetGroupVersionKind(r.kind.GroupVersion().WithKind(r.kind.Name))
		o.SetNamespace(r.in(a.named(p)))
		o.SetName(r.name)
		all = append(all, object{r.kind, o})
	}
	return all, nil
}
