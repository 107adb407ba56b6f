package engine

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"aisle.dev/aisle/activator/engine/access"
)

// openTokens checks what was said of the admin API over TCP: there is no
// address for it without tokens.
func (e *Engine) openTokens() (err error) {
	switch {
	case e.opts.AdminAddress == "" && e.opts.AdminTokens == "":
		return nil
	case e.opts.AdminTokens == "":
		return errors.New("the admin API is served on an address only to who has a token: say where tokens are (--admin-tokens FILE)")
	case e.opts.AdminAddress == "":
		return errors.New("tokens are for the admin API over TCP: say on which address it is served (--admin-addr HOST:PORT)")
	}
	e.tokens, err = access.Open(e.opts.AdminTokens, e.log)
	return err
}

// listenRemote listens where the admin API takes tokens; nil: nowhere.
func (e *Engine) listenRemote() (net.Listener, error) {
	if e.tokens == nil {
		return nil, nil
	}
	l, err := net.Listen("tcp", e.opts.AdminAddress)
	if err != nil {
		return nil, fmt.Errorf("listen on %s for the admin API: %w; give it another address", e.opts.AdminAddress, err)
	}
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		e.log.Warn("the admin API's tokens cross the network as they are: put a proxy with TLS before it, or serve it on 127.0.0.1", "address", l.Addr().String())
	}
	return l, nil
}

// remoteServer serves the admin API to tokens.
func (e *Engine) remoteServer(admin *http.ServeMux, errorLog *log.Logger) *http.Server {
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second, MaxHeaderBytes: maxHeader, ErrorLog: errorLog}
	if e.tokens != nil {
		s.Handler = e.tokens.Guard(admin)
	}
	return s
}
