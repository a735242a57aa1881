// Package minio pins the MinIO server that tests run against, as a tool of this module. deploy/local/build-tools.sh builds it.
package minio
