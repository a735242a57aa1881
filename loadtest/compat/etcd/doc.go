// Package etcd pins the etcd server that tests run against, as a tool of this module. deploy/local/build-tools.sh builds it.
package etcd
