package hand

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	kjson "sigs.k8s.io/json"

	"aisle.dev/aisle/activator/engine/access"
	"aisle.dev/aisle/activator/engine/audit"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/scaling"
	"aisle.dev/aisle/internal/serve"
)

// maxBody bounds a request.
const maxBody = 16 << 10

// Handler answers at [access.ScalePath]: GET says what bounds a service, PUT
// takes a [scaling.ByHand] and sets it in the place of what was set, DELETE
// takes that back. All answer with a [client.Scale], whose ETag names what is
// set; without one nothing is. With ?dryRun=true nothing is written.
func Handler(b Backend, log *slog.Logger) http.Handler {
	return problem.Handler(func(w http.ResponseWriter, req *http.Request) error {
		namespace, service, err := named(req)
		if err != nil {
			return err
		}
		switch req.Method {
		case http.MethodGet, http.MethodHead:
			s, ok := b.State(namespace, service)
			if !ok {
				return missing(b, http.StatusNotFound, namespace, service)
			}
			return answer(w, http.StatusOK, View(namespace, service, s))
		case http.MethodPut:
			return put(b, w, req, namespace, service)
		case http.MethodDelete:
			return reset(b, w, req, namespace, service)
		}
		w.Header().Set("Allow", "GET, HEAD, PUT, DELETE")
		return problem.New(http.StatusMethodNotAllowed, "%s is not allowed here; use GET, PUT or DELETE", req.Method)
	}, func(_ *http.Request, err error) { log.Error("bounds by hand: not answered", "err", err) })
}

// named is the service that a request is about: NAME or NAMESPACE/NAME.
func named(req *http.Request) (namespace, service string, err error) {
	service = req.PathValue("name")
	asked := req.URL.Query().Get("namespace")
	namespace, rest, both := strings.Cut(service, "/")
	switch {
	case !both && asked == "":
		namespace = "default"
	case !both:
		namespace = asked
	case asked != "" && asked != namespace:
		return "", "", problem.New(http.StatusBadRequest, "the service is of namespace %.80q, and ?namespace= says %.80q; leave one of them away", namespace, asked)
	default:
		service = rest
	}
	for _, name := range []string{namespace, service} {
		if why := validation.IsDNS1123Label(name); len(why) > 0 {
			return "", "", problem.New(http.StatusBadRequest, "%.80q is no name: %s", name, why[0])
		}
	}
	return namespace, service, nil
}

// dry is whether a change is only to be tried. What it does not know it
// refuses: that must not be taken for a wish to change something.
func dry(req *http.Request) (bool, error) {
	text := req.URL.Query().Get("dryRun")
	if text == "" {
		return false, nil
	}
	is, err := strconv.ParseBool(text)
	if err != nil && text != "All" { // as Kubernetes has it
		return false, problem.New(http.StatusBadRequest, "dryRun=%.40q: use true or false", text)
	}
	return is || text == "All", nil
}

func put(b Backend, w http.ResponseWriter, req *http.Request, namespace, service string) error {
	body, err := serve.ReadBody(w, req, maxBody)
	if err != nil {
		return err
	}
	var wanted scaling.ByHand
	if err := decode(body, &wanted); err != nil {
		return problem.New(http.StatusBadRequest, "%s", err)
	}
	by := access.Of(req)
	return update(b, w, req, namespace, service, func(s State) (Change, error) {
		set, err := wanted.Schedule(namespace, service, by.String(), s.Now)
		if err != nil {
			return Change{}, problem.New(http.StatusUnprocessableEntity, "%s", err)
		}
		return Change{set, audit.Entry{Way: by.Way, By: by.Name, Did: "set by hand"}}, nil
	})
}

func reset(b Backend, w http.ResponseWriter, req *http.Request, namespace, service string) error {
	by := access.Of(req)
	return update(b, w, req, namespace, service, func(s State) (Change, error) {
		if s.set(service) == nil {
			return Change{}, problem.New(http.StatusNotFound, "nothing is set by hand for %s", service)
		}
		return Change{Entry: audit.Entry{Way: by.Way, By: by.Name, Did: "taken back by hand"}}, nil
	})
}

// update makes a change that a request asks for, or says what it would be.
func update(b Backend, w http.ResponseWriter, req *http.Request, namespace, service string, change func(State) (Change, error)) error {
	try, err := dry(req)
	if err != nil {
		return err
	}
	before, ok := b.State(namespace, service)
	if !ok {
		return missing(b, http.StatusNotFound, namespace, service)
	}
	allowed := func(s State) (Change, error) {
		set := s.set(service)
		if err := permitted(req.Header, set); err != nil {
			return Change{}, err
		}
		return change(s)
	}
	if try {
		c, err := allowed(before)
		if err != nil {
			return err
		}
		v := Told(namespace, service, before.With(service, c.Schedule))
		v.DryRun = true
		return answer(w, http.StatusOK, v)
	}
	status := http.StatusOK
	after, err := b.Update(namespace, service, func(s State) (Change, error) {
		if s.set(service) == nil {
			status = http.StatusCreated
		}
		return allowed(s)
	})
	if err != nil {
		return err
	}
	return answer(w, status, Told(namespace, service, after))
}

const example = `such as {"min": 2, "max": 4, "for": "3h", "reason": "Black Friday"}`

// decode reads one JSON object with no fields but the known ones, each once.
func decode(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	var one json.RawMessage
	if err := dec.Decode(&one); err != nil {
		return fmt.Errorf("not what sets bounds: %w; send JSON %s", err, example)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("something follows the JSON object; send one alone")
	}
	strict, err := kjson.UnmarshalStrict(one, into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		err = inWords(wrong)
	}
	if err := errors.Join(append(strict, err)...); err != nil {
		return fmt.Errorf("not what sets bounds: %s; %s", strings.ReplaceAll(err.Error(), "\n", "; "), example)
	}
	return nil
}

// inWords says which field has what it cannot have.
func inWords(wrong *json.UnmarshalTypeError) error {
	is, of := "a "+wrong.Value, "a text in quotes"
	if number, ok := strings.CutPrefix(wrong.Value, "number "); ok {
		is = number
	} else if wrong.Value == "array" || wrong.Value == "object" {
		is = "an " + wrong.Value
	}
	switch wrong.Type.Kind() {
	case reflect.Int32:
		of = fmt.Sprintf("a whole number of pods up to %d", scaling.MaxScale)
	case reflect.Bool:
		of = "true or false"
	case reflect.Struct:
		of = "a JSON object"
	}
	if wrong.Field == "" {
		return fmt.Errorf("%s is not %s", is, of)
	}
	return fmt.Errorf("%s: %s is not %s", wrong.Field, is, of)
}

func answer(w http.ResponseWriter, status int, v client.Scale) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if tag := etag(v.ByHand); tag != "" && !v.DryRun {
		w.Header().Set("ETag", tag)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the caller has gone; there is nobody left to tell
	return nil
}
