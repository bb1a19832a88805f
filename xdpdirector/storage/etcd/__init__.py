# SPDX-License-Identifier: Apache-2.0
"""The desired state in etcd, for several directors. Imported only where the configuration says that it is there.

Uses etcd's JSON gateway (`/v3/...`, part of every etcd from 3.4 on) by the standard library, so that it needs no
package and no native code. Must not know the data plane.
"""
