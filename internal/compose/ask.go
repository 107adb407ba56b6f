package compose

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

const (
	firstPause  = 100 * time.Millisecond // the longest before the second try; doubled before each further one
	tripsAfter  = 5                      // failures in a row open a service's circuit breaker
	openFor     = 3 * time.Second        // then one request is let through
	maxPatience = 30 * time.Second       // what a Retry-After of ours says at most of legs that failed
	// closedPatience is what a Retry-After says of a closed leg whose opening
	// is not known.
	closedPatience = 10 * time.Minute
)

// service is one service that answers for a leg, as a running composer sees it.
type service struct {
	leg       string // the leg's name
	name      string
	variant   category.Variant
	namespace string
	url       string
	client    *http.Client
	reads     reads
	breaker   circuitbreaker.CircuitBreaker[any]
	lastError atomic.Pointer[string] // why the breaker last counted a failure
	tries     int                    // of one product, at most
	closures  *closures
}

func newService(l composition.Leg, name string, o *Options, closures *closures) (*service, error) {
	namespace := cmp.Or(l.Namespace, o.Namespace)
	u, err := address(o.LegURL, l.Name, name, namespace)
	if err != nil {
		return nil, err
	}
	return &service{
		leg: l.Name, name: name, namespace: namespace, url: u,
		client: &http.Client{
			Transport:     o.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		reads:    reads{declared: l.Reads},
		breaker:  circuitbreaker.NewBuilder[any]().WithFailureThreshold(tripsAfter).WithSuccessThreshold(1).WithDelay(openFor).Build(),
		tries:    1 + l.Retries,
		closures: closures,
	}, nil
}

// result is what became of a leg for one product.
type result struct {
	category.Leg
	predictions []prediction.Prediction // when it answered
	refused     *problem.Error          // the leg found the input at fault
	patience    time.Duration           // failed or closed: when to come again, if the service said so
}

// reply is one response of a leg, or why there is none.
type reply struct {
	status int
	header http.Header
	body   []byte
	err    error
}

// ask asks the service about one product. It returns by ctx's deadline.
func (s *service) ask(ctx context.Context, p Product) (r result) {
	start := time.Now()
	r = s.result()
	defer func() { r.LatencyMs = ms(time.Since(start)) }()

	if fields := s.reads.known(); fields != nil && !p.Has(fields) {
		r.skip(fields)
		return r
	}
	if opens, closed := s.closures.of(s.namespace, s.name, start); closed {
		r.close(start, opens)
		return r
	}
	widened := false
	for pause := firstPause; ; pause *= 2 {
		if !s.breaker.TryAcquirePermit() {
			if r.Reason == "" {
				why := "unknown"
				if last := s.lastError.Load(); last != nil {
					why = *last
				}
				r.fail(category.CircuitOpen, "%s is not asked for up to %s, since its last requests failed (%s)", s.name, openFor, why)
			}
			r.Outcome = category.LegFailed // at a second try it keeps the reason of the first
			r.patience = max(r.patience, s.breaker.RemainingDelay())
			return r
		}
		load, err := payloadFor(p.Product, p.JSON, s.reads.known())
		if err != nil {
			s.breaker.RecordSuccess()
			r.fail(category.Internal, "the product cannot be written: %v", err)
			return r
		}
		r.Attempts++
		got := s.once(ctx, p.Header, load)
		again := s.judge(ctx, &r, got)
		narrow := s.learn(got, p.Product, load)
		if r.Outcome != category.LegFailed {
			if narrow && !widened {
				// The answer is about a product without some field that the
				// leg reads: a new revision's. Ask again, with that field.
				widened, pause = true, pause/2
				anew := s.result()
				anew.Attempts, anew.ColdMs, anew.ColdPhases = r.Attempts, r.ColdMs, r.ColdPhases
				r = anew
				continue
			}
			return r
		}
		if !again || r.Attempts >= s.tries {
			return r
		}
		wait := r.patience + rand.N(pause) // full jitter: those that failed together come back apart
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			r.Reason += fmt.Sprintf("; there was no time to try again in %s", wait.Round(time.Millisecond))
			return r
		}
		select {
		case <-ctx.Done():
			return r
		case <-time.After(wait):
		}
	}
}

// learn takes from a reply what the leg reads, and reports whether the
// product has some of that and it was not sent.
func (s *service) learn(got reply, p product.Product, sent payload) bool {
	declared := parseReads(got.header.Get(prediction.HeaderReads))
	if declared == nil {
		return false
	}
	s.reads.learn(declared)
	return len(keptBack(p, sent, declared)) > 0
}

// once sends one request and reads the whole answer.
func (s *service) once(ctx context.Context, trace http.Header, load payload) reply {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(load.body))
	if err != nil {
		return reply{err: err}
	}
	for k, v := range trace {
		req.Header[k] = v
	}
	// Classifying twice does no harm. This sends no header, and has the
	// transport replay at once what a closed idle connection swallowed.
	req.Header["Idempotency-Key"] = nil
	req.Header.Set("Content-Type", load.contentType)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "aisle-composer")
	resp, err := s.client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	body, err := readAnswer(resp)
	if err != nil {
		return reply{status: resp.StatusCode, header: resp.Header, err: err}
	}
	return reply{status: resp.StatusCode, header: resp.Header, body: body}
}

var errLong = fmt.Errorf("its answer is larger than %d bytes", maxAnswer)

func readAnswer(resp *http.Response) ([]byte, error) {
	if resp.ContentLength > maxAnswer {
		return nil, errLong
	}
	var buf bytes.Buffer
	if n := resp.ContentLength; n > 0 {
		buf.Grow(int(n) + bytes.MinRead) // ReadFrom wants room for one read more
	}
	if _, err := buf.ReadFrom(io.LimitReader(resp.Body, maxAnswer+1)); err != nil {
		return nil, err
	}
	if buf.Len() > maxAnswer {
		return nil, errLong
	}
	return buf.Bytes(), nil
}

// judge turns a reply into the leg's result, tells the breaker, and reports
// whether a failure is worth another try.
func (s *service) judge(ctx context.Context, r *result, got reply) (again bool) {
	cold, phases := coldStart(got.header)
	r.ColdMs += cold
	if phases != nil {
		r.ColdPhases = phases
	}
	r.patience = retryAfter(got.header, time.Now())
	alive := s.breaker.RecordSuccess
	dead := func(how category.Failure, format string, args ...any) {
		r.fail(how, format, args...)
		why := r.Reason
		s.lastError.Store(&why)
		s.breaker.RecordFailure()
	}
	switch {
	case got.err != nil && ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		// Whoever asked has gone: this says nothing of the leg. A trial
		// request must be given back all the same.
		if s.breaker.IsHalfOpen() {
			s.breaker.RecordFailure()
		}
		r.fail(category.Internal, "the request was given up by its sender")
		return false
	case errors.Is(got.err, errLong):
		dead(category.BadAnswer, "%s gave no usable answer: %v", s.name, got.err)
		return false
	case got.err != nil:
		how := category.Unreachable
		if ctx.Err() != nil || errors.Is(got.err, context.DeadlineExceeded) {
			how = category.Timeout
		}
		dead(how, "%s", s.explain(ctx, got.err))
		return ctx.Err() == nil
	case got.status == http.StatusOK:
		answer, err := parseAnswer(got.body)
		if err != nil {
			dead(category.BadAnswer, "%s gave no usable answer: %v", s.name, err)
			return false
		}
		alive()
		r.answer(answer)
		return false
	}
	typ, detail := parseRefusal(got.body)
	said := fmt.Sprintf("%s answered %d %s", s.name, got.status, http.StatusText(got.status))
	if detail != "" {
		said += ": " + detail
	}
	switch {
	case got.status == http.StatusUnprocessableEntity && typ == problem.TypeNothingToRead:
		alive()
		r.skip(parseReads(got.header.Get(prediction.HeaderReads)))
		return false
	case got.status == http.StatusServiceUnavailable && typ == problem.TypeClosed:
		alive() // whoever keeps it closed says it at once
		now, opens := time.Now(), time.Time{}
		if r.patience > 0 {
			opens = now.Add(r.patience)
		}
		r.close(now, opens)
		return false
	case isInputFault(got.status, typ):
		alive()
		r.fail(category.Refused, "%s", said)
		r.refused = problem.New(http.StatusUnprocessableEntity, "leg %s cannot classify this product: %s", s.leg, cmp.Or(detail, said))
		return false
	case got.status == http.StatusNotFound, got.status == http.StatusMisdirectedRequest:
		alive() // whoever said this lives, and says it at once
		r.fail(category.Unreachable, "there is no service %q in namespace %q that classifies (%s)", s.name, s.namespace, said)
		return false
	case got.status == http.StatusTooManyRequests, got.status == http.StatusServiceUnavailable && r.patience > 0:
		alive() // busy, not broken
		r.fail(category.Overloaded, "%s", said)
		return true
	case got.status == http.StatusServiceUnavailable:
		dead(category.Overloaded, "%s", said)
		return true
	case got.status == http.StatusBadGateway, got.status == http.StatusGatewayTimeout:
		dead(category.Unreachable, "%s", said) // says a proxy
		return true
	}
	dead(category.Refused, "%s", said) // a 500 is what this product does to it, and would again
	return false
}

// explain says in a sentence why there was no answer.
func (s *service) explain(ctx context.Context, err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil:
		return fmt.Sprintf("%s did not answer in time", s.name)
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("there is no service %q in namespace %q: %s is not known", s.name, s.namespace, dns.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("%s cannot be reached: the connection was refused", s.name)
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			break
		}
		err = inner // the outer ones repeat the URL
	}
	return fmt.Sprintf("%s cannot be reached: %s", s.name, printable(err.Error()))
}

// result begins a result of the service.
func (s *service) result() result {
	return result{Leg: category.Leg{Name: s.leg, Service: s.name, Variant: s.variant}}
}

func (r *result) answer(a prediction.Result) {
	top := best(a.Predictions)
	r.Outcome, r.Failure, r.Reason = category.Answered, "", ""
	r.Label, r.Confidence, r.Model = top.Label, top.Probability, &a.Model
	r.predictions = a.Predictions
}

func (r *result) skip(fields []string) {
	r.Outcome, r.Failure = category.Skipped, ""
	r.Reason = "the product has nothing that it reads"
	if len(fields) > 0 {
		r.Reason += fmt.Sprintf(" (%s)", strings.Join(fields, ", "))
	}
}

// close says that a schedule keeps the service closed, until opens if that is
// known.
func (r *result) close(now, opens time.Time) {
	r.Outcome, r.Failure, r.patience = category.Closed, "", closedPatience
	r.Reason = r.Service + " is closed by a schedule"
	if !opens.IsZero() {
		r.Opens = opens.UTC().Round(time.Second)
		r.Reason += " until " + r.Opens.Format(time.RFC3339)
		r.patience = opens.Sub(now)
	}
}

func (r *result) fail(how category.Failure, format string, args ...any) {
	r.Outcome, r.Failure, r.Reason = category.LegFailed, how, fmt.Sprintf(format, args...)
}

func ms(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
