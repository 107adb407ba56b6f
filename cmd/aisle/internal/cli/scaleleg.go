package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/objects"
	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/scaling"
)

func (a *app) scaleLeg() *cobra.Command {
	var h handFlags
	var gpu, cpu bool
	var composer, format string
	cmd := &cobra.Command{
		Use:   "leg NAME",
		Short: "Keep the GPU or the CPU service of a leg ready, and not the other",
		Long: `Move the floor of a leg that has a GPU and a CPU service (variants, in its
composition) to one of them: that one gets a floor, by hand, and what was set by
hand as the other one's floor is taken back. A cap that was set by hand stays.

It expires: say --for or --until, or --permanent where it is meant to stay. Which
of the two answers is the composition's rule; nothing is taken down that is busy.`,
		Example: `  aisle scale leg photo --gpu --for 3h --reason "evening import"
  aisle scale leg photo --cpu --permanent
  aisle scale leg photo --gpu --min 2 --until 18:00 --dry-run`,
		Args: exactly(1, "a leg"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if gpu == cpu {
				return usagef("say which of the leg's services is to be kept ready: --gpu or --cpu")
			}
			if h.min < 1 {
				return usagef("--min: %d keeps nothing ready: want 1 or more; to take back what was set use: aisle scale SERVICE --reset", h.min)
			}
			hand := h.expiry
			hand.Min = &h.min
			wanted, err := checked(hand, time.Now())
			if err != nil {
				return err
			}
			p, err := a.place()
			if err != nil {
				return err
			}
			s, err := a.scalerAt()
			if err != nil {
				return err
			}
			namespace, services, err := a.variants(cmd.Context(), p, args[0], composer)
			if err != nil {
				return err
			}
			kept, other := services.GPU, services.CPU
			if cpu {
				kept, other = other, kept
			}
			both, err := moveFloor(cmd.Context(), s, namespace+"/"+kept, namespace+"/"+other, *wanted, h.dry)
			if err != nil {
				return err
			}
			if format != "table" {
				return writeAs(a.out, format, both)
			}
			for i, v := range both {
				if i > 0 {
					a.out.Printf("\n")
				}
				if err := a.showScale(v, time.Now); err != nil {
					return err
				}
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.BoolVar(&gpu, "gpu", false, "keep the GPU service ready")
	f.BoolVar(&cpu, "cpu", false, "keep the CPU service ready")
	f.Int32Var(&h.min, "min", 1, "the least number of its pods")
	f.StringVar(&composer, "composer", "", "the composer whose leg is meant, where several have one of that name")
	h.expiryFlags(cmd)
	output(cmd, &format, "table", "json", "yaml")
	return cmd
}

// moveFloor gives one service a floor by hand, and then takes away the other's,
// so that there is none of both at no time. It gives what bounds the two then.
// What somebody else has set by hand meanwhile stays, and is an error.
func moveFloor(ctx context.Context, s scaler, to, from string, wanted scaling.ByHand, dry bool) ([]client.Scale, error) {
	kept, err := s.Scale(ctx, to)
	if err != nil {
		return nil, err
	}
	if set := byHand(kept); set != nil && set.Cap != nil {
		if *set.Cap < *wanted.Min {
			return nil, usagef("--min: %d is above the cap of %d that is set by hand for %s, which stays; take it back with: aisle scale %s --reset", *wanted.Min, *set.Cap, to, to)
		}
		wanted.Max = set.Cap
	}
	before := kept
	left, err := s.Scale(ctx, from)
	if err != nil {
		return nil, err
	}
	if kept, err = s.SetScale(ctx, to, wanted, client.Changing{Dry: dry, Read: &before}); err != nil {
		return nil, fmt.Errorf("nothing was changed: %w", err)
	}
	read := left
	how := client.Changing{Dry: dry, Read: &read}
	switch set := byHand(left); {
	case set == nil || set.Floor == nil:
	case set.Cap != nil:
		rest := scaling.ByHand{Max: set.Cap, Permanent: left.ByHand.Spec.Until == nil, Reason: left.ByHand.Spec.Reason}
		if until := left.ByHand.Spec.Until; until != nil {
			rest.Until = until.UTC().Format(time.RFC3339)
		}
		left, err = s.SetScale(ctx, from, rest, how)
	default:
		left, err = s.ResetScale(ctx, from, how)
	}
	if err != nil {
		return nil, fmt.Errorf("%s has its floor, but %s has kept its own: %w", to, from, err)
	}
	return []client.Scale{kept, left}, nil
}

// byHand is what is set by hand for a service and holds; nil: nothing.
func byHand(v client.Scale) *scaling.Window {
	if v.ByHand == nil || v.ByHand.Expired(time.Now()) || len(v.ByHand.Spec.Windows) == 0 {
		return nil
	}
	return &v.ByHand.Spec.Windows[0]
}

// variants finds the leg of that name, by the compositions of the composers at a
// place: its namespace and its two services.
func (a *app) variants(ctx context.Context, p place, leg, composer string) (namespace string, found composition.Variants, err error) {
	services, _, err := objects.List[*servingv1.Service](ctx, p.Objects(), objects.Service, a.named(p), "")
	if err != nil {
		return "", found, err
	}
	var from, single, known []string
	for _, s := range services {
		if composer != "" && s.Name != composer {
			continue
		}
		file, err := compositionOf(ctx, p, s)
		if err != nil {
			return "", found, fmt.Errorf("read the composition of %s: %w", s.Name, err)
		}
		if file == nil {
			continue
		}
		c, err := file.parse()
		if err != nil {
			return "", found, fmt.Errorf("read the composition of %s: %w", s.Name, err)
		}
		in := file.namespace
		for _, l := range c.Legs {
			switch {
			case l.Name != leg:
				known = append(known, l.Name)
			case l.Variants == nil:
				single = append(single, l.Service)
			default:
				if l.Namespace != "" {
					in = l.Namespace
				}
				if len(from) > 0 && (in != namespace || l.Variants.GPU != found.GPU || l.Variants.CPU != found.CPU) {
					return "", found, usagef("both %s and %s have a leg %s, with other services: say which is meant with --composer NAME", from[0], s.Name, leg)
				}
				from, namespace, found = append(from, s.Name), in, *l.Variants
			}
		}
	}
	switch {
	case len(from) > 0:
		return namespace, found, nil
	case len(single) > 0:
		return "", found, usagef("leg %s has one service alone: use aisle scale %s", leg, single[0])
	case len(known) == 0:
		return "", found, fmt.Errorf("there is no composer in namespace %s whose composition is in a ConfigMap", a.named(p))
	}
	slices.Sort(known)
	return "", found, fmt.Errorf("no composition in namespace %s has a leg %s; there are: %s", a.named(p), leg, strings.Join(slices.Compact(known), ", "))
}
