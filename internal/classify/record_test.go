package classify_test

import (
	"net/http/httptest"
	"strings"
)

// record answers one request without a server.
func (r *running) record(method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	r.c.Handler().ServeHTTP(w, req)
	return w
}
