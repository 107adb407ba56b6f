package knativetest

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
)

// Kubeconfig is a file of two contexts for a server: "test", the current one,
// in namespace "aisle", and "stranger", whose token is wrong. Tokens are only
// sent to a server with a certificate.
func Kubeconfig(server string, certificate *x509.Certificate, token string) []byte {
	cluster := Object{"server": server}
	if certificate != nil {
		cluster["certificate-authority-data"] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	}
	user := func(name, token string) Object { return Object{"name": name, "user": Object{"token": token}} }
	text, err := json.Marshal(Object{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []Object{{"name": "c", "cluster": cluster}},
		"users":    []Object{user("tester", token), user("stranger", "wrong")},
		"contexts": []Object{
			{"name": "test", "context": Object{"cluster": "c", "user": "tester", "namespace": "aisle"}},
			{"name": "stranger", "context": Object{"cluster": "c", "user": "stranger"}},
		},
	})
	if err != nil {
		panic(err) // it is made of strings
	}
	return text
}
