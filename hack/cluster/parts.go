package main

import (
	"bytes"
	"embed"
	"fmt"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed node
var nodeFiles embed.FS

// configure writes the configuration of the node's parts.
func configure(l layout) error {
	values := map[string]string{
		"Run": l.run(), "PKI": l.run("pki"), "Socket": l.containerdSocket(), "Node": nodeName, "NodeIP": nodeIP, "PodCIDR": podCIDR, "Network": networkName, "Pause": imageOf(images["base"][0]), "Registry": registryAddr,
	}
	for from, to := range map[string]string{
		"kubelet.yaml": "kubelet.yaml", "proxy.yaml": "proxy.yaml", "containerd.toml": "containerd.toml",
		"cni.conflist": "cni/10-aisle.conflist", "Corefile": "Corefile", "registry.toml": "registries/" + registryAddr + "/hosts.toml",
	} {
		t, err := template.New(from).Option("missingkey=error").ParseFS(nodeFiles, "node/"+from)
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if err := t.Execute(&text, values); err != nil {
			return fmt.Errorf("write %s: %w", from, err)
		}
		if err := writeFile(l.run(filepath.FromSlash(to)), text.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return writeFile(l.run("resolv.conf"), []byte("nameserver "+nodeIP+"\n"), 0o644)
}

// A part is one process of the node.
type part struct {
	name string
	args []string
}

func hyper(l layout, name, flags string) part {
	return part{name, append([]string{l.bin("hyper"), name}, strings.Fields(flags)...)}
}

// parts are the node's processes, by name.
func parts(l layout) map[string]part {
	pki, run := l.run("pki"), l.run()
	all := []part{
		hyper(l, "etcd", "--name=n --data-dir="+run+"/etcd --unsafe-no-fsync --log-level=warn"+
			" --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379"+
			" --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 --initial-cluster=n=http://127.0.0.1:2380"),
		{"containerd", []string{"containerd", "--config", run + "/containerd.toml", "--log-level", "warn"}},
		hyper(l, "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 --secure-port=6443 --advertise-address="+nodeIP+
			" --service-cluster-ip-range="+serviceCIDR+" --client-ca-file="+pki+"/ca.crt"+
			" --tls-cert-file="+pki+"/apiserver.crt --tls-private-key-file="+pki+"/apiserver.key"+
			" --service-account-issuer=https://kubernetes.default.svc.cluster.local"+
			" --service-account-key-file="+pki+"/sa.pub --service-account-signing-key-file="+pki+"/sa.key"+
			" --kubelet-client-certificate="+pki+"/admin.crt --kubelet-client-key="+pki+"/admin.key --kubelet-certificate-authority="+pki+"/ca.crt"+
			// kubectl logs dials the node, whose name nobody resolves.
			" --kubelet-preferred-address-types=InternalIP"+
			" --authorization-mode=Node,RBAC --allow-privileged=true --profiling=false --enable-priority-and-fairness=false"),
		hyper(l, "kube-controller-manager", "--kubeconfig="+pki+"/controller-manager.kubeconfig --leader-elect=false"+
			" --use-service-account-credentials=true --service-account-private-key-file="+pki+"/sa.key --root-ca-file="+pki+"/ca.crt"+
			" --cluster-signing-cert-file="+pki+"/ca.crt --cluster-signing-key-file="+pki+"/ca.key"+
			" --service-cluster-ip-range="+serviceCIDR+" --profiling=false"),
		hyper(l, "kube-scheduler", "--kubeconfig="+pki+"/scheduler.kubeconfig --leader-elect=false --profiling=false"),
		hyper(l, "coredns", "-conf "+run+"/Corefile"),
		hyper(l, "kubelet", "--config="+run+"/kubelet.yaml --kubeconfig="+pki+"/kubelet.kubeconfig --hostname-override="+nodeName+
			" --node-ip="+nodeIP+" --root-dir="+run+"/kubelet --cert-dir="+pki+" --v=1"),
		hyper(l, "kube-proxy", "--config="+run+"/proxy.yaml"),
	}
	byName := map[string]part{}
	for _, p := range all {
		byName[p.name] = p
	}
	return byName
}
