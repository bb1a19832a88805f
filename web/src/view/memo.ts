// SPDX-License-Identifier: Apache-2.0
// A component that is drawn again only when its properties differ (preact/compat's memo, without the rest of it).

import { Component, type ComponentChild, type FunctionComponent, h } from "preact";

export function memo<Props extends object>(draw: FunctionComponent<Props>, same: (one: Props, other: Props) => boolean): FunctionComponent<Props> {
  class Memo extends Component<Props> {
    override shouldComponentUpdate(next: Props): boolean {
      return !same(this.props, next);
    }
    override render(): ComponentChild {
      return h(draw, this.props);
    }
  }
  return Memo as unknown as FunctionComponent<Props>;
}
