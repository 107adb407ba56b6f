package broker

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkIngress accepts events of 1 KB, without the HTTP server's part.
func BenchmarkIngress(b *testing.B) {
	broker, err := Open(b.Context(), Options{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := broker.Close(); err != nil {
			b.Error(err)
		}
	}()
	if err := broker.Apply(b.Context(), parse(b, shopBroker)); err != nil {
		b.Fatal(err)
	}
	ingress, body := broker.Ingress(), strings.Repeat("x", 1<<10)
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := httptest.NewRequest(http.MethodPost, "/default/shop", strings.NewReader(body))
			r.Header = http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/bench"}, "Ce-Type": {"bench"}}
			w := httptest.NewRecorder()
			if ingress.ServeHTTP(w, r); w.Code != http.StatusAccepted {
				b.Fatal(w.Code, w.Body)
			}
		}
	})
}
